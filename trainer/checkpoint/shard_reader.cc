#include "trainer/checkpoint/shard_reader.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <system_error>

#include "core/error.h"
#include "core/file.h"

namespace fathom::trainer {
namespace {

constexpr std::size_t kMaxOpenFiles = 200;  // systems allow 1024 by default

// Where bytes [begin, end) of a stored slice go in the wanted rectangle.
class RectangleCopy {
 public:
  RectangleCopy(const Rectangle& stored, const Rectangle& wanted, std::int64_t element_bytes,
                std::span<std::byte> out)
      : stored_(stored),
        wanted_(wanted),
        both_(intersection(stored, wanted)),
        element_bytes_(element_bytes),
        out_(out) {}

  void copy(std::int64_t begin, std::span<const std::byte> bytes) const {
    const std::int64_t row_bytes = stored_.num_columns * element_bytes_;
    const std::int64_t end = begin + static_cast<std::int64_t>(bytes.size());
    const std::int64_t first_row = std::max(stored_.row_begin + begin / row_bytes, both_.row_begin);
    const std::int64_t last_row =
        std::min(stored_.row_begin + (end - 1) / row_bytes + 1, both_.row_end());
    for (std::int64_t row = first_row; row < last_row; ++row) {
      const std::int64_t row_start = (row - stored_.row_begin) * row_bytes;
      const std::int64_t part_start =
          row_start + (both_.column_begin - stored_.column_begin) * element_bytes_;
      const std::int64_t from = std::max(part_start, begin);
      const std::int64_t to = std::min(part_start + both_.num_columns * element_bytes_, end);
      if (from < to) {
        std::memcpy(out_.data() + out_offset(row) + (from - part_start),
                    bytes.data() + (from - begin), static_cast<std::size_t>(to - from));
      }
    }
  }

 private:
  std::int64_t out_offset(std::int64_t row) const {
    return ((row - wanted_.row_begin) * wanted_.num_columns + both_.column_begin -
            wanted_.column_begin) *
           element_bytes_;
  }

  const Rectangle stored_, wanted_, both_;
  const std::int64_t element_bytes_;
  const std::span<std::byte> out_;
};

}  // namespace

ShardReader::ShardReader(const OpenCheckpoint& checkpoint)
    : checkpoint_(checkpoint),
      regions_(regions_of(checkpoint.manifest)),
      open_(kMaxOpenFiles),
      is_checked_(checkpoint.manifest.files.size(), false) {}

void ShardReader::check_folder() const {
  std::set<std::string> expected;
  std::error_code error;
  for (const StoredFile& file : checkpoint_.manifest.files) {
    const std::filesystem::path path = checkpoint_.folder / file.name;
    if (!std::filesystem::exists(std::filesystem::symlink_status(path, error))) {
      throw Damage(concat("file ", file.name, " is missing"));
    }
    const std::uintmax_t size = std::filesystem::file_size(path, error);
    if (error || size != static_cast<std::uintmax_t>(file.size_bytes)) {
      throw Damage(concat("file ", file.name, " has ",
                          error ? error.message() : concat(size, " bytes"), " instead of ",
                          file.size_bytes, " bytes"));
    }
    expected.insert(file.name);
  }
  for (std::filesystem::directory_iterator i(checkpoint_.folder, error), end; !error && i != end;
       i.increment(error)) {
    const std::string name = i->path().filename().string();
    if (is_shard_name(name) && !expected.contains(name)) {
      throw Damage(concat("file ", name, " is not part of it"));
    }
  }
  if (error) {
    throw_io_error("list", checkpoint_.folder, error.value());
  }
}

std::shared_ptr<const ShardFile> ShardReader::open(std::size_t file_index) {
  return open_.get(checkpoint_.folder / checkpoint_.manifest.files.at(file_index).name,
                   [&] { return open_checked(file_index); });
}

ShardFile ShardReader::open_checked(std::size_t file_index) {
  const StoredFile& stored = checkpoint_.manifest.files.at(file_index);
  const std::filesystem::path path = checkpoint_.folder / stored.name;
  std::error_code error;
  if (!std::filesystem::exists(std::filesystem::symlink_status(path, error)) && !error) {
    throw Damage(concat("file ", stored.name, " is missing"));
  }
  ShardFile file = ShardFile::open_for_reading(path);
  const std::int64_t size = file.size_bytes();
  if (size != stored.size_bytes) {
    throw Damage(
        concat("file ", stored.name, " has ", size, " bytes instead of ", stored.size_bytes));
  }
  if (!is_checked_[file_index]) {
    check_metadata(file, file_index);
    is_checked_[file_index] = true;
  }
  return file;
}

void ShardReader::check_metadata(const ShardFile& file, std::size_t file_index) const {
  const StoredFile& stored = checkpoint_.manifest.files[file_index];
  data::Checksum64 metadata;
  const auto add = [&](std::span<const std::byte> bytes) { metadata.add(bytes); };
  std::int64_t position = 0;
  for (const FileRegion& region : regions_[file_index]) {
    for_each_block(file, position, region.begin, add);
    position = region.end;
  }
  for_each_block(file, position, stored.size_bytes, add);
  if (metadata.value() != stored.metadata_checksum) {
    throw Damage(concat("file ", stored.name, ": the checksum of its HDF5 structure differs"));
  }
}

void ShardReader::check_file(std::size_t file_index) {
  const std::shared_ptr<const ShardFile> file = open(file_index);
  for (const FileRegion& region : regions_[file_index]) {
    read_slice(*region.tensor, *region.slice, {}, {});
  }
  data::Checksum128 whole;
  for_each_block(*file, 0, file->size_bytes(),
                 [&](std::span<const std::byte> bytes) { whole.add(bytes); });
  const StoredFile& stored = checkpoint_.manifest.files[file_index];
  if (whole.value() != stored.checksum) {
    throw Damage(concat("file ", stored.name, ": its checksum differs"));
  }
}

void ShardReader::read(const StoredTensor& tensor, const Rectangle& wanted,
                       std::span<std::byte> out) {
  FATHOM_CHECK(wanted.numel() == 0 || intersection(wanted, whole_of(tensor.global_shape)) == wanted,
               tensor.key, " ", tensor.global_shape, ": ", to_string(wanted));
  FATHOM_CHECK(static_cast<std::int64_t>(out.size()) == wanted.numel() * size_of(tensor.dtype),
               tensor.key, ": ", out.size(), " bytes for ", to_string(wanted));
  std::int64_t num_read = 0;
  for (const StoredSlice& slice : tensor.slices) {
    const std::int64_t overlap = intersection(slice.where, wanted).numel();
    if (overlap > 0) {
      read_slice(tensor, slice, wanted, out);
      num_read += overlap;
    }
  }
  // The manifest's slices cover each tensor once, so this is a bug here and not damage there.
  FATHOM_CHECK(num_read == wanted.numel(), tensor.key, ": ", num_read, " of ", wanted.numel());
}

void ShardReader::read_slice(const StoredTensor& tensor, const StoredSlice& slice,
                             const Rectangle& wanted, std::span<std::byte> out) {
  const auto file_index = static_cast<std::size_t>(slice.file);
  const std::shared_ptr<const ShardFile> file = open(file_index);
  const bool is_checked = checked_slices_.contains(&slice);
  const std::int64_t row_bytes = slice.where.num_columns * size_of(tensor.dtype);
  std::int64_t begin = 0, end = slice.where.num_rows * row_bytes;
  if (is_checked) {
    const Rectangle both = intersection(slice.where, wanted);
    begin = std::max<std::int64_t>(0, both.row_begin - slice.where.row_begin) * row_bytes;
    end = begin + both.num_rows * row_bytes;
  }
  const RectangleCopy target(slice.where, wanted, size_of(tensor.dtype), out);
  data::Checksum64 checksum;
  std::int64_t position = begin;
  for_each_block(*file, slice.file_offset + begin, slice.file_offset + end,
                 [&](std::span<const std::byte> block) {
                   if (!is_checked) {
                     checksum.add(block);
                   }
                   target.copy(position, block);
                   position += static_cast<std::int64_t>(block.size());
                 });
  if (is_checked) {
    return;
  }
  if (checksum.value() != slice.checksum) {
    throw Damage(concat("file ", checkpoint_.manifest.files[file_index].name, ": tensor ",
                        tensor.key, " ", to_string(slice.where), " does not match its checksum"));
  }
  checked_slices_.insert(&slice);
}

}  // namespace fathom::trainer
