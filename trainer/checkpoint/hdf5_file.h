#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"
#include "trainer/checkpoint/manifest.h"

namespace fathom::trainer {

// A dataset of a rank's file: one rectangle of a published tensor.
struct Dataset {
  std::string key;
  Shape global_shape;
  DType dtype = DType::kFloat32;
  Rectangle where;
  std::int64_t file_offset = -1;  // where HDF5 put its bytes

  std::string path() const;  // "/<key>/<row_begin>_<column_begin>"
  std::int64_t size_bytes() const noexcept { return where.numel() * size_of(dtype); }
};

// Makes a new HDF5 file with these datasets, contiguous and unfilled, with the attributes
// global_shape and offset, and sets each file_offset. The library only lays the file out: elements
// are written and read at their offsets through our own descriptor, where every error is seen
// (HDF5 1.10 reports success after a full disk lost data, and never calls fsync). Token shards are
// built in memory instead (data/hdf5_file.h); a rank's state has no room for a second copy.
void create_hdf5_file(const std::filesystem::path& path, std::vector<Dataset>& datasets);

// Opens the file anew and compares each dataset with what was asked for: place, type, sizes, no
// filter, link or external storage. Throws IoError where it differs, as after metadata was lost.
void check_hdf5_file(const std::filesystem::path& path, const std::vector<Dataset>& datasets);

}  // namespace fathom::trainer
