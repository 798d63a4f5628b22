#pragma once

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"
#include "data/checksum.h"
#include "trainer/checkpoint/checkpoint.h"

namespace fathom::trainer {

inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::string_view kManifestName = "manifest.pb";

// What is wrong with the bytes of a checkpoint; whoever knows its folder makes a ConfigError of it.
class Damage : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Elements [row_begin, row_begin + num_rows) x [column_begin, ...) of a tensor; a tensor of one
// dimension is a single row.
struct Rectangle {
  std::int64_t row_begin = 0, num_rows = 0;
  std::int64_t column_begin = 0, num_columns = 0;

  std::int64_t row_end() const noexcept { return row_begin + num_rows; }
  std::int64_t column_end() const noexcept { return column_begin + num_columns; }
  std::int64_t numel() const noexcept { return num_rows * num_columns; }
  bool operator==(const Rectangle&) const = default;
};
Rectangle intersection(const Rectangle& a,
                       const Rectangle& b) noexcept;  // 0 x 0 when they do not meet
Rectangle whole_of(const Shape& global_shape);
std::string to_string(const Rectangle& rectangle);

struct StoredSlice {
  Rectangle where;
  int file = 0;
  std::int64_t file_offset = 0;
  std::uint64_t checksum = 0;  // XXH3-64
};

struct StoredTensor {
  std::string key;
  Shape global_shape;
  DType dtype = DType::kFloat32;
  std::vector<StoredSlice> slices;
};

struct StoredFile {
  std::string name;
  std::int64_t size_bytes = 0;
  data::Bits128 checksum;
  std::uint64_t metadata_checksum = 0;
};

// The manifest of a checkpoint as plain data.
struct Manifest {
  std::int64_t step = 0;
  std::vector<std::pair<std::string, std::int64_t>> integers;
  CheckpointIdentity identity;
  std::vector<StoredFile> files;
  std::vector<StoredTensor> tensors;  // sorted by key

  const StoredTensor* find(std::string_view key) const noexcept;
};

// A part of a file that belongs to one slice.
struct FileRegion {
  std::int64_t begin = 0, end = 0;
  const StoredTensor* tensor = nullptr;
  const StoredSlice* slice = nullptr;
};
// By file index; ascending and without overlap in a valid manifest. Points into `manifest`.
std::vector<std::vector<FileRegion>> regions_of(const Manifest& manifest);

// "rank-00003.h5", and whether a name is of that form.
std::string shard_name(int rank);
bool is_shard_name(std::string_view name);
// A key is a path of letters, digits and _.-+: ; no part of it is empty, "." or "..".
bool is_key(std::string_view key);

// The sealed bytes and back. parse_manifest throws Damage when the seal is broken or the content
// cannot be, as validate() does, and ConfigError when it is of a newer format.
std::string serialize_manifest(const Manifest& manifest);
Manifest parse_manifest(std::string_view bytes);
// The same without seal and checks: what a rank tells rank 0 about its part.
std::string serialize_part(const Manifest& part);
Manifest parse_part(std::string_view bytes);

// Throws Damage unless keys and names are ours and unique, all sizes are possible (so that nothing
// is allocated from a wild one), every slice lies inside its file and shares bytes with no other,
// and the slices of each tensor cover each of its elements once.
void validate(const Manifest& manifest);

}  // namespace fathom::trainer
