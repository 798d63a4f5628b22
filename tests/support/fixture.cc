#include "tests/support/fixture.h"

#include <hdf5.h>

#include <cmath>

#include "core/error.h"
#include "tests/support/paths.h"

namespace fathom::testing {

// Visits a file and puts what it finds into a Fixture.
class FixtureReader {
 public:
  explicit FixtureReader(Fixture& fixture) : fixture_(fixture) {}

  void read() {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // errors are thrown, not printed
    const hid_t file = H5Fopen(fixture_.path_.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) {
      throw IoError(concat(fixture_.path_, ": not a readable HDF5 file"));
    }
    read_attributes(file);
    H5Literate(file, H5_INDEX_NAME, H5_ITER_INC, nullptr, visit_root, this);
    H5Fclose(file);
    if (!failure_.empty()) {
      throw IoError(concat(fixture_.path_, ": ", failure_));
    }
  }

 private:
  static herr_t visit_root(hid_t file, const char* name, const H5L_info_t*, void* self) {
    return static_cast<FixtureReader*>(self)->visit(file, name, "");
  }

  static herr_t visit_folder(hid_t group, const char* name, const H5L_info_t*, void* self) {
    auto* reader = static_cast<FixtureReader*>(self);
    return reader->visit(group, name, reader->folder_);
  }

  // No exception may cross HDF5's C code: a failure is kept and ends the iteration.
  herr_t visit(hid_t parent, const char* name, const std::string& folder) {
    const hid_t object = H5Oopen(parent, name, H5P_DEFAULT);
    herr_t result = 0;
    if (H5Iget_type(object) == H5I_GROUP) {
      folder_ = concat(name, "/");
      result = H5Literate(object, H5_INDEX_NAME, H5_ITER_INC, nullptr, visit_folder, this);
    } else if (H5Iget_type(object) != H5I_DATASET || !read_dataset(object, folder + name)) {
      failure_ = concat("cannot read ", folder, name);
      result = -1;
    }
    H5Oclose(object);
    return result;
  }

  bool read_dataset(hid_t dataset, const std::string& name) {
    const hid_t space = H5Dget_space(dataset);
    const hid_t type = H5Dget_type(dataset);
    std::vector<hsize_t> extents(static_cast<std::size_t>(H5Sget_simple_extent_ndims(space)));
    H5Sget_simple_extent_dims(space, extents.data(), nullptr);
    const std::vector<std::int64_t> shape(extents.begin(), extents.end());
    const auto size = static_cast<std::size_t>(H5Sget_simple_extent_npoints(space));
    bool is_read = false;
    if (H5Tget_class(type) == H5T_FLOAT) {
      FixtureArray<float> array{shape, std::vector<float>(size)};
      is_read = read_values(dataset, H5T_NATIVE_FLOAT, array.values.data());
      fixture_.floats_.emplace(name, std::move(array));
    } else if (H5Tget_class(type) == H5T_INTEGER) {
      FixtureArray<std::int32_t> array{shape, std::vector<std::int32_t>(size)};
      is_read = read_values(dataset, H5T_NATIVE_INT32, array.values.data());
      fixture_.integers_.emplace(name, std::move(array));
    }
    H5Tclose(type);
    H5Sclose(space);
    return is_read;
  }

  static bool read_values(hid_t dataset, hid_t type, void* values) {
    return H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0;
  }

  void read_attributes(hid_t file) {
    H5Aiterate2(file, H5_INDEX_NAME, H5_ITER_INC, nullptr, visit_attribute, this);
  }

  // Attributes are strings of variable length, as h5py writes them, or single numbers.
  static herr_t visit_attribute(hid_t file, const char* name, const H5A_info_t*, void* self) {
    Fixture& fixture = static_cast<FixtureReader*>(self)->fixture_;
    const hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    const hid_t type = H5Aget_type(attribute);
    if (H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) > 0) {
      char* text = nullptr;
      if (H5Aread(attribute, type, static_cast<void*>(&text)) >= 0 && text != nullptr) {
        fixture.strings_[name] = text;
        H5free_memory(text);
      }
    } else if (double number = NAN; H5Aread(attribute, H5T_NATIVE_DOUBLE, &number) >= 0) {
      fixture.numbers_[name] = number;
    }
    H5Tclose(type);
    H5Aclose(attribute);
    return 0;
  }

  Fixture& fixture_;
  std::string folder_;
  std::string failure_;
};

namespace {

template <class Value>
const Value& find(const std::map<std::string, Value>& values, const std::string& name,
                  const std::string& path, const char* kind) {
  const auto found = values.find(name);
  if (found == values.end()) {
    throw IoError(concat(path, ": no ", kind, " named ", name));
  }
  return found->second;
}

}  // namespace

Fixture::Fixture(const std::filesystem::path& path) : path_(path.string()) {
  FixtureReader(*this).read();
}

nlohmann::json Fixture::json(const std::string& attribute) const {
  return nlohmann::json::parse(find(strings_, attribute, path_, "string attribute"));
}

double Fixture::number(const std::string& attribute) const {
  return find(numbers_, attribute, path_, "number attribute");
}

const FixtureArray<float>& Fixture::floats(const std::string& name) const {
  return find(floats_, name, path_, "float array");
}

const FixtureArray<std::int32_t>& Fixture::integers(const std::string& name) const {
  return find(integers_, name, path_, "integer array");
}

float Fixture::scalar(const std::string& name) const {
  const auto& array = floats(name);
  FATHOM_CHECK(array.values.size() == 1, path_, ": ", name, " has ", array.values.size(),
               " elements");
  return array.values.front();
}

std::map<std::string, FixtureArray<float>> Fixture::folder(const std::string& folder) const {
  std::map<std::string, FixtureArray<float>> found;
  const std::string prefix = folder + "/";
  for (auto at = floats_.lower_bound(prefix); at != floats_.end() && at->first.starts_with(prefix);
       ++at) {
    found.emplace(at->first.substr(prefix.size()), at->second);
  }
  return found;
}

Fixture parity_fixture(const std::string& name) {
  return Fixture(test::source_path("tests/fixtures/parity/" + name + ".h5"));
}

}  // namespace fathom::testing
