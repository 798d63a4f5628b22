#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>

namespace fathom::trainer {

// An open regular file; symbolic links are refused. Every call does all of its bytes or throws
// IoError with path, operation and cause.
class ShardFile {
 public:
  static ShardFile create(const std::filesystem::path& path);  // must not exist
  static ShardFile open_for_reading(const std::filesystem::path& path);
  static ShardFile open_for_writing(const std::filesystem::path& path);  // exists already
  ShardFile(ShardFile&& other) noexcept;
  ShardFile& operator=(ShardFile&& other) noexcept;
  ~ShardFile();

  const std::filesystem::path& path() const noexcept { return path_; }
  std::int64_t size_bytes() const;
  void read_at(std::int64_t offset, std::span<std::byte> bytes) const;
  void write_at(std::int64_t offset, std::span<const std::byte> bytes) const;
  // Takes the disk space of the first `bytes` now, and makes the file at least as long, so that a
  // full disk shows before anything is written; no effect on file systems that cannot.
  void reserve(std::int64_t bytes) const;
  // Never tried again: after a failed fsync the kernel may have dropped what was to be written.
  void sync() const;
  void close();

  // flock; false when another process or handle holds it the other way. A file system without locks
  // counts as locked. NFS wants a file that is locked exclusively open for writing.
  bool try_lock_shared() const;
  bool try_lock_exclusive() const;
  // The file has no name any more.
  bool is_deleted() const;

 private:
  ShardFile(std::filesystem::path path, int flags);
  bool try_lock(int operation) const;
  void check_regular() const;

  std::filesystem::path path_;
  int descriptor_ = -1;
};

// Calls visit with the bytes [begin, end), at most 1 MiB at a time.
void for_each_block(const ShardFile& file, std::int64_t begin, std::int64_t end,
                    const std::function<void(std::span<const std::byte>)>& visit);

}  // namespace fathom::trainer
