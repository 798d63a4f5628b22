#pragma once

#include <cstddef>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "core/open_files.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/shard_file.h"

namespace fathom::trainer {

// Reads rectangles of published tensors out of the files of one checkpoint. What it reads it
// checks: the size and the bytes between the slices when a file is opened, and each slice whole the
// first time that a part of it is wanted. It goes by the manifest's offsets and never hands a file
// to the HDF5 library, which is not safe on files that something has changed.
class ShardReader {
 public:
  // `checkpoint` must outlive the reader.
  explicit ShardReader(const OpenCheckpoint& checkpoint);

  // out [wanted.num_rows, wanted.num_columns] <- that rectangle of the tensor. Throws Damage naming
  // file and tensor, or IoError.
  void read(const StoredTensor& tensor, const Rectangle& wanted, std::span<std::byte> out);

  // The files' presence and sizes, and that there is no other file of a rank. Throws Damage.
  void check_folder() const;
  // Every byte of one file.
  void check_file(std::size_t file_index);

 private:
  std::shared_ptr<const ShardFile> open(std::size_t file_index);
  ShardFile open_checked(std::size_t file_index);
  void check_metadata(const ShardFile& file, std::size_t file_index) const;
  void read_slice(const StoredTensor& tensor, const StoredSlice& slice, const Rectangle& wanted,
                  std::span<std::byte> out);

  const OpenCheckpoint& checkpoint_;
  const std::vector<std::vector<FileRegion>> regions_;
  OpenFiles<ShardFile> open_;
  std::vector<bool> is_checked_;
  std::set<const StoredSlice*> checked_slices_;
};

}  // namespace fathom::trainer
