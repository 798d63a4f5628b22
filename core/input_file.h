#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace fathom {

// A file opened for reading at any place. Const functions may be called by several threads.
class InputFile {
 public:
  // Throws IoError.
  explicit InputFile(std::filesystem::path path);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;
  ~InputFile();

  // Throws IoError.
  std::int64_t size_bytes() const;
  // Bytes offset .. offset + bytes.size() - 1. Throws IoError, also where the file ends before.
  void read_at(std::int64_t offset, std::span<std::byte> bytes) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

// InputFile::read_at() of a descriptor that is open already; `path` is for messages.
void read_at(int descriptor, const std::filesystem::path& path, std::int64_t offset,
             std::span<std::byte> bytes);

}  // namespace fathom
