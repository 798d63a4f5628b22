#include "trainer/checkpoint/hdf5_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <set>

#include "core/error.h"
#include "data/hdf5_library.h"

namespace fathom::trainer {
namespace {

static_assert(std::endian::native == std::endian::little, "datasets are written as they lie");

// A failed call of the library.
[[noreturn]] void fail(const std::string& operation, const std::filesystem::path& path) {
  throw IoError(concat("HDF5: ", operation, " ", path.string(), ": ", data::hdf5_error()));
}

void check(herr_t status, const std::string& operation, const std::filesystem::path& path) {
  if (status < 0) {
    fail(operation, path);
  }
}

// A handle that is valid, or an error.
class Handle {
 public:
  Handle(hid_t id, data::Hdf5Handle::Close close_with, const std::string& operation,
         const std::filesystem::path& path)
      : handle_(id, close_with) {
    check(handle_.is_valid() ? 0 : -1, operation, path);
  }

  operator hid_t() const noexcept { return handle_; }
  void close(const std::string& operation, const std::filesystem::path& path) {
    check(handle_.close(), operation, path);
  }

 private:
  data::Hdf5Handle handle_;
};

Handle file_type_of(DType dtype, const std::filesystem::path& path) {
  const std::string operation = concat("make type ", dtype, " for");
  switch (dtype) {
    case DType::kFloat32:
      return {H5Tcopy(H5T_IEEE_F32LE), H5Tclose, operation, path};
    case DType::kInt32:
      return {H5Tcopy(H5T_STD_I32LE), H5Tclose, operation, path};
    case DType::kInt64:
      return {H5Tcopy(H5T_STD_I64LE), H5Tclose, operation, path};
    case DType::kBFloat16:
      break;
  }
  // The upper half of a float32: sign at bit 15, 8 bits of exponent from bit 7, 7 of mantissa.
  const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
  const bool is_set = type >= 0 && H5Tset_fields(type, 15, 7, 8, 0, 7) >= 0 &&
                      H5Tset_precision(type, 16) >= 0 && H5Tset_size(type, 2) >= 0 &&
                      H5Tset_ebias(type, 127) >= 0;
  return {is_set ? type : hid_t{-1}, H5Tclose, operation, path};
}

std::vector<hsize_t> extents_of(const Dataset& dataset) {
  const auto rows = static_cast<hsize_t>(dataset.where.num_rows);
  const auto columns = static_cast<hsize_t>(dataset.where.num_columns);
  return dataset.global_shape.rank() == 1 ? std::vector{columns} : std::vector{rows, columns};
}

void write_attribute(hid_t dataset, const char* name, const std::vector<std::int64_t>& values,
                     const std::filesystem::path& path) {
  const std::string operation = concat("write attribute ", name, " to");
  const hsize_t count = values.size();
  const Handle space(H5Screate_simple(1, &count, nullptr), H5Sclose, operation, path);
  Handle attribute(H5Acreate2(dataset, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT),
                   H5Aclose, operation, path);
  check(H5Awrite(attribute, H5T_NATIVE_INT64, values.data()), operation, path);
  attribute.close(operation, path);
}

void write_attributes(hid_t dataset, const Dataset& entry, const std::filesystem::path& path) {
  const auto sizes = entry.global_shape.sizes();
  write_attribute(dataset, "global_shape", {sizes.begin(), sizes.end()}, path);
  std::vector<std::int64_t> offset{entry.where.row_begin, entry.where.column_begin};
  if (entry.global_shape.rank() == 1) {
    offset.erase(offset.begin());
  }
  write_attribute(dataset, "offset", offset, path);
}

std::int64_t offset_of(hid_t dataset, const std::string& operation,
                       const std::filesystem::path& path) {
  const haddr_t offset = H5Dget_offset(dataset);
  if (offset == HADDR_UNDEF) {
    fail(operation, path);
  }
  return static_cast<std::int64_t>(offset);
}

// How files are opened. Only this process knows the file, or it never changes again: the library's
// locks would only fail on network file systems.
Handle file_access(const std::filesystem::path& path) {
  Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "set up", path);
  check(H5Pset_file_locking(access, 0, 1), "set up", path);
  return access;
}

// A new file being laid out.
class Layout {
 public:
  Layout(const std::filesystem::path& path, std::size_t num_datasets)
      : path_(path),
        group_creation_(H5Pcreate(H5P_GROUP_CREATE), H5Pclose, "set up", path),
        dataset_creation_(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, "set up", path),
        file_(create_file(path, num_datasets), H5Fclose, "create", path) {
    // No times are kept anywhere: the same state gives the same bytes.
    require(H5Pset_obj_track_times(group_creation_, false));
    require(H5Pset_obj_track_times(dataset_creation_, false));
    require(H5Pset_layout(dataset_creation_, H5D_CONTIGUOUS));
    require(H5Pset_alloc_time(dataset_creation_, H5D_ALLOC_TIME_EARLY));
    require(H5Pset_fill_time(dataset_creation_, H5D_FILL_TIME_NEVER));
  }

  void add(Dataset& entry) {
    add_groups(entry.key);
    const std::string operation = concat("create dataset ", entry.path(), " in");
    const Handle type = file_type_of(entry.dtype, path_);
    const std::vector<hsize_t> extents = extents_of(entry);
    const Handle space(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr),
                       H5Sclose, operation, path_);
    Handle dataset(H5Dcreate2(file_, entry.path().c_str(), type, space, H5P_DEFAULT,
                              dataset_creation_, H5P_DEFAULT),
                   H5Dclose, operation, path_);
    write_attributes(dataset, entry, path_);
    entry.file_offset = offset_of(dataset, operation, path_);
    dataset.close(operation, path_);
  }

  void close() {
    check(H5Fflush(file_, H5F_SCOPE_GLOBAL), "flush", path_);
    file_.close("close", path_);
  }

 private:
  static hid_t create_file(const std::filesystem::path& path, std::size_t num_datasets) {
    const std::string setting = "set up";
    const Handle access = file_access(path);
    check(H5Pset_fclose_degree(access, H5F_CLOSE_STRONG), setting, path);
    // The file format of HDF5 1.8 (2008): compact groups, checksums on metadata, read everywhere.
    check(H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18), setting, path);
    // The structure in few pieces, apart from the elements: about half a KiB a dataset.
    const hsize_t structure_bytes = 2048 + 512 * num_datasets;
    check(H5Pset_meta_block_size(access, std::min<hsize_t>(structure_bytes, hsize_t{1} << 20)),
          setting, path);
    const Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose, setting, path);
    check(H5Pset_obj_track_times(creation, false), setting, path);
    return H5Fcreate(path.c_str(), H5F_ACC_EXCL, creation, access);
  }

  void require(herr_t status) const { check(status, "set up", path_); }

  // A key is one group, or nested ones where it has slashes.
  void add_groups(const std::string& key) {
    for (std::size_t end = 0; end != std::string::npos;) {
      end = key.find('/', end + 1);
      const std::string name = concat("/", key.substr(0, end));
      if (groups_.insert(name).second) {
        const std::string operation = concat("create group ", name, " in");
        Handle group(H5Gcreate2(file_, name.c_str(), H5P_DEFAULT, group_creation_, H5P_DEFAULT),
                     H5Gclose, operation, path_);
        group.close(operation, path_);
      }
    }
  }

  const std::filesystem::path& path_;
  Handle group_creation_, dataset_creation_, file_;
  std::set<std::string> groups_;
};

void check_dataset(hid_t file, const Dataset& entry, const std::filesystem::path& path) {
  const std::string operation = concat("read back dataset ", entry.path(), " of");
  const Handle dataset(H5Dopen2(file, entry.path().c_str(), H5P_DEFAULT), H5Dclose, operation,
                       path);
  const Handle creation(H5Dget_create_plist(dataset), H5Pclose, operation, path);
  const Handle type(H5Dget_type(dataset), H5Tclose, operation, path);
  const Handle wanted_type = file_type_of(entry.dtype, path);
  const Handle space(H5Dget_space(dataset), H5Sclose, operation, path);
  const std::vector<hsize_t> wanted = extents_of(entry);
  std::array<hsize_t, 2> extents{};
  const bool same_extents = H5Sget_simple_extent_ndims(space) == static_cast<int>(wanted.size()) &&
                            H5Sget_simple_extent_dims(space, extents.data(), nullptr) >= 0 &&
                            std::equal(wanted.begin(), wanted.end(), extents.begin());
  if (!same_extents || H5Tequal(type, wanted_type) <= 0 ||
      H5Pget_layout(creation) != H5D_CONTIGUOUS || H5Pget_external_count(creation) != 0 ||
      H5Pget_nfilters(creation) != 0 || offset_of(dataset, operation, path) != entry.file_offset ||
      static_cast<std::int64_t>(H5Dget_storage_size(dataset)) != entry.size_bytes()) {
    throw IoError(concat("HDF5: ", operation, " ", path.string(), ": it is not what was written"));
  }
}

}  // namespace

std::string Dataset::path() const {
  return concat("/", key, "/", where.row_begin, "_", where.column_begin);
}

void create_hdf5_file(const std::filesystem::path& path, std::vector<Dataset>& datasets) {
  data::prepare_hdf5();
  Layout layout(path, datasets.size());
  for (Dataset& dataset : datasets) {
    layout.add(dataset);
  }
  layout.close();
}

void check_hdf5_file(const std::filesystem::path& path, const std::vector<Dataset>& datasets) {
  data::prepare_hdf5();
  Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, file_access(path)), H5Fclose, "open", path);
  for (const Dataset& dataset : datasets) {
    check_dataset(file, dataset, path);
  }
  file.close("close", path);
}

}  // namespace fathom::trainer
