#include "data/hdf5_file.h"

#include <hdf5.h>

#include <array>
#include <cerrno>
#include <exception>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "data/hdf5_library.h"

namespace fathom::data {
namespace {

hid_t file_type(ElementType type) {
  switch (type) {
    case ElementType::kUint16:
      return H5T_STD_U16LE;
    case ElementType::kUint32:
      return H5T_STD_U32LE;
    case ElementType::kInt32:
      return H5T_STD_I32LE;
    case ElementType::kInt64:
      return H5T_STD_I64LE;
    case ElementType::kUint64:
      return H5T_STD_U64LE;
  }
  throw InternalError(concat("element type ", static_cast<int>(type)));
}

std::optional<ElementType> element_type(hid_t type) {
  for (const ElementType candidate :
       {ElementType::kUint16, ElementType::kUint32, ElementType::kInt32, ElementType::kInt64,
        ElementType::kUint64}) {
    if (H5Tequal(type, file_type(candidate)) > 0) {
      return candidate;
    }
  }
  return std::nullopt;
}

void want_written(bool condition, std::string_view what) {
  if (!condition) {
    throw IoError(concat("HDF5 could not build ", what, " in memory: ", hdf5_error()));
  }
}

}  // namespace

std::size_t element_bytes(ElementType type) noexcept {
  switch (type) {
    case ElementType::kUint16:
      return 2;
    case ElementType::kUint32:
    case ElementType::kInt32:
      return 4;
    default:
      return 8;
  }
}

// The file in memory. H5Fget_file_image() would be the plain way to it, but it clears the mark
// "open for writing" in the superblock and leaves the checksum that counted the mark (1.10.8). So
// the library works in memory of ours, which is the file when it has closed it.
struct Hdf5ImageWriter::State {
  std::string image;
  Hdf5Handle file;  // after the image, which closing it may still resize

  static void* copy_pointer(void* self) noexcept { return self; }
  static herr_t keep(void*) noexcept { return 0; }
  static herr_t keep_image(void*, H5FD_file_image_op_t, void*) noexcept { return 0; }
  static void* resize(void*, std::size_t size, H5FD_file_image_op_t, void* self) noexcept {
    auto& image = static_cast<State*>(self)->image;
    try {
      image.resize(size);
    } catch (const std::exception&) {
      return nullptr;  // the library reports it
    }
    return image.data();
  }
};

Hdf5ImageWriter::Hdf5ImageWriter(std::size_t expected_bytes) : state_(std::make_unique<State>()) {
  prepare_hdf5();
  state_->image.reserve(expected_bytes);
  constexpr std::size_t kGrowthBytes = std::size_t{1} << 20;
  H5FD_file_image_callbacks_t callbacks{};
  callbacks.image_realloc = State::resize;
  callbacks.image_free = State::keep_image;
  callbacks.udata_copy = State::copy_pointer;
  callbacks.udata_free = State::keep;
  callbacks.udata = state_.get();
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  const Hdf5Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  want_written(access.is_valid() && H5Pset_fapl_core(access, kGrowthBytes, 0) >= 0 &&
                   H5Pset_file_image_callbacks(access, &callbacks) >= 0 &&
                   H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0 &&
                   creation.is_valid() && H5Pset_obj_track_times(creation, 0) >= 0,
               "a file");
  state_->file =
      Hdf5Handle(H5Fcreate("fathom-image.h5", H5F_ACC_TRUNC, creation, access), H5Fclose);
  want_written(state_->file.is_valid(), "a file");
}

Hdf5ImageWriter::~Hdf5ImageWriter() = default;

void Hdf5ImageWriter::add_attribute(const std::string& name, std::int64_t value) {
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle attribute(
      H5Acreate2(state_->file, name.c_str(), H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT),
      H5Aclose);
  want_written(attribute.is_valid() && H5Awrite(attribute, H5T_NATIVE_INT64, &value) >= 0, name);
}

void Hdf5ImageWriter::add_attribute(const std::string& name, const std::string& value) {
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  want_written(!value.empty() && H5Tset_size(type, value.size()) >= 0 &&
                   H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0,
               name);
  const Hdf5Handle attribute(
      H5Acreate2(state_->file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  want_written(attribute.is_valid() && H5Awrite(attribute, type, value.data()) >= 0, name);
}

void Hdf5ImageWriter::add_dataset(const std::string& name, ElementType type,
                                  std::span<const std::byte> bytes) {
  const hsize_t size = bytes.size() / element_bytes(type);
  const Hdf5Handle space(H5Screate_simple(1, &size, nullptr), H5Sclose);
  const Hdf5Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  want_written(space.is_valid() && creation.is_valid() &&
                   H5Pset_layout(creation, H5D_CONTIGUOUS) >= 0 &&
                   H5Pset_obj_track_times(creation, 0) >= 0,
               name);
  const Hdf5Handle dataset(H5Dcreate2(state_->file, name.c_str(), file_type(type), space,
                                      H5P_DEFAULT, creation, H5P_DEFAULT),
                           H5Dclose);
  want_written(dataset.is_valid(), name);
  if (size > 0) {
    want_written(
        H5Dwrite(dataset, file_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data()) >= 0, name);
  }
}

std::string Hdf5ImageWriter::finish() {
  const hid_t file = state_->file;
  const ssize_t size =
      H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0 ? H5Fget_file_image(file, nullptr, 0) : -1;
  want_written(size > 0, "a file");
  const auto file_bytes = static_cast<std::size_t>(size);
  want_written(state_->file.close() >= 0 && state_->image.size() >= file_bytes, "a file");
  state_->image.resize(file_bytes);
  return std::move(state_->image);
}

struct Hdf5Reader::State {
  std::string path;
  std::int64_t file_bytes = 0;
  Hdf5Handle file;

  template <class... Parts>
  void want(bool condition, const Parts&... parts) const {
    if (!condition) {
      throw IoError(concat(path, ": ", parts...));
    }
  }
};

Hdf5Reader::Hdf5Reader(const std::filesystem::path& path) : state_(std::make_unique<State>()) {
  prepare_hdf5();
  state_->path = path.string();
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::none) {
    throw_io_error("look at", path, error.value());
  }
  state_->want(std::filesystem::exists(status), "no such file");
  state_->want(std::filesystem::is_regular_file(status), "not a regular file");
  state_->file_bytes = static_cast<std::int64_t>(std::filesystem::file_size(path, error));
  state_->want(!error, "cannot be read: ", error.message());
  state_->want(state_->file_bytes > 0, "the file is empty");
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  // Published files never change: locks would only fail on network file systems.
  state_->want(access.is_valid() && H5Pset_file_locking(access, 0, 1) >= 0, hdf5_error());
  errno = 0;
  state_->file = Hdf5Handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), H5Fclose);
  if (!state_->file.is_valid()) {
    const int system_error = errno;
    throw IoError(concat(state_->path, ": no HDF5 file, or truncated or damaged (",
                         state_->file_bytes, " bytes): ", hdf5_error()),
                  system_error);
  }
}

Hdf5Reader::~Hdf5Reader() = default;

std::int64_t Hdf5Reader::file_bytes() const noexcept { return state_->file_bytes; }

bool Hdf5Reader::has_attribute(const std::string& name) const {
  const htri_t found = H5Aexists(state_->file, name.c_str());
  state_->want(found >= 0, "damaged: ", hdf5_error());
  return found > 0;
}

std::int64_t Hdf5Reader::integer_attribute(const std::string& name) const {
  const Hdf5Handle attribute(H5Aopen(state_->file, name.c_str(), H5P_DEFAULT), H5Aclose);
  state_->want(attribute.is_valid(), "attribute ", name, " is missing or damaged");
  const Hdf5Handle type(H5Aget_type(attribute), H5Tclose);
  const Hdf5Handle space(H5Aget_space(attribute), H5Sclose);
  std::int64_t value = 0;
  state_->want(type.is_valid() && H5Tequal(type, H5T_STD_I64LE) > 0 && space.is_valid() &&
                   H5Sget_simple_extent_type(space) == H5S_SCALAR &&
                   H5Aread(attribute, H5T_NATIVE_INT64, &value) >= 0,
               "attribute ", name, " is not one int64 or damaged");
  return value;
}

std::string Hdf5Reader::text_attribute(const std::string& name) const {
  constexpr std::size_t kMaxBytes = 1024;
  const Hdf5Handle attribute(H5Aopen(state_->file, name.c_str(), H5P_DEFAULT), H5Aclose);
  state_->want(attribute.is_valid(), "attribute ", name, " is missing or damaged");
  const Hdf5Handle type(H5Aget_type(attribute), H5Tclose);
  const Hdf5Handle space(H5Aget_space(attribute), H5Sclose);
  const bool is_fixed_text =
      type.is_valid() && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0;
  const std::size_t size = is_fixed_text ? H5Tget_size(type) : 0;
  state_->want(size > 0 && size <= kMaxBytes && space.is_valid() &&
                   H5Sget_simple_extent_type(space) == H5S_SCALAR,
               "attribute ", name, " is not a text of 1 to ", kMaxBytes, " bytes");
  std::string value(size, '\0');
  state_->want(H5Aread(attribute, type, value.data()) >= 0, "attribute ", name,
               " is damaged: ", hdf5_error());
  return value.substr(0, value.find('\0'));
}

Hdf5Reader::Dataset Hdf5Reader::dataset(const std::string& name) const {
  H5L_info_t link{};
  state_->want(H5Lget_info(state_->file, name.c_str(), &link, H5P_DEFAULT) >= 0, "dataset ", name,
               " is missing or damaged");
  state_->want(link.type == H5L_TYPE_HARD, "dataset ", name, " is a link to elsewhere");
  const Hdf5Handle dataset(H5Dopen2(state_->file, name.c_str(), H5P_DEFAULT), H5Dclose);
  state_->want(dataset.is_valid(), "dataset ", name, " is damaged: ", hdf5_error());
  const Hdf5Handle creation(H5Dget_create_plist(dataset), H5Pclose);
  const Hdf5Handle type(H5Dget_type(dataset), H5Tclose);
  const Hdf5Handle space(H5Dget_space(dataset), H5Sclose);
  state_->want(creation.is_valid() && type.is_valid() && space.is_valid(), "dataset ", name,
               " is damaged: ", hdf5_error());
  state_->want(H5Pget_layout(creation) == H5D_CONTIGUOUS && H5Pget_external_count(creation) == 0 &&
                   H5Pget_nfilters(creation) == 0,
               "dataset ", name, " is not stored as one plain block in this file");
  const std::optional<ElementType> known_type = element_type(type);
  state_->want(known_type.has_value() && H5Sget_simple_extent_ndims(space) == 1, "dataset ", name,
               " is not a list of integers");
  const hssize_t size = H5Sget_simple_extent_npoints(space);
  if (size == 0) {
    return {0, 0, *known_type};
  }
  const auto width = static_cast<std::int64_t>(element_bytes(*known_type));
  const haddr_t offset = H5Dget_offset(dataset);
  state_->want(size > 0 && size <= state_->file_bytes / width && offset != HADDR_UNDEF &&
                   H5Dget_storage_size(dataset) == static_cast<hsize_t>(size * width) &&
                   offset <= static_cast<haddr_t>(state_->file_bytes - size * width),
               "dataset ", name, " claims ", size, " elements, more than the file of ",
               state_->file_bytes, " bytes holds");
  return {static_cast<std::int64_t>(offset), size, *known_type};
}

}  // namespace fathom::data
