#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace fathom::data {

enum class ElementType { kUint16, kUint32, kInt32, kInt64, kUint64 };
std::size_t element_bytes(ElementType type) noexcept;

// For files that fit into memory once. HDF5 never writes to the disk: it builds the file in memory,
// and core/file.h writes, syncs and renames it, so that a full disk is one plain error. Metadata
// are of the format that carries checksums (superblock 2).
class Hdf5ImageWriter {
 public:
  // expected_bytes: of the file; a guess that is too low costs copies.
  explicit Hdf5ImageWriter(std::size_t expected_bytes = 0);
  ~Hdf5ImageWriter();
  Hdf5ImageWriter(const Hdf5ImageWriter&) = delete;
  Hdf5ImageWriter& operator=(const Hdf5ImageWriter&) = delete;

  void add_attribute(const std::string& name, std::int64_t value);
  void add_attribute(const std::string& name, const std::string& value);
  // A one-dimensional contiguous dataset; `bytes` are its elements, native little-endian.
  void add_dataset(const std::string& name, ElementType type, std::span<const std::byte> bytes);
  // The whole file. The same bytes for the same calls. Throws IoError when HDF5 fails.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Reads what Hdf5ImageWriter wrote, and refuses all else before it reads any of it: other link,
// storage or element types, filters, external files, sizes that the file cannot hold. HDF5 serves
// only to find things: the content of a dataset is read from its place in the file by the caller,
// or by read(). All errors are IoError and name the file.
class Hdf5Reader {
 public:
  struct Dataset {
    std::int64_t file_offset = 0;
    std::int64_t num_elements = 0;
    ElementType type = ElementType::kInt64;
  };

  explicit Hdf5Reader(const std::filesystem::path& path);
  ~Hdf5Reader();
  Hdf5Reader(const Hdf5Reader&) = delete;
  Hdf5Reader& operator=(const Hdf5Reader&) = delete;

  std::int64_t file_bytes() const noexcept;
  bool has_attribute(const std::string& name) const;
  std::int64_t integer_attribute(const std::string& name) const;
  std::string text_attribute(const std::string& name) const;  // at most 1 KiB
  // Where a dataset lies.
  Dataset dataset(const std::string& name) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fathom::data
