#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace fathom::testing {

// An array of a fixture, row-major.
template <class Element>
struct FixtureArray {
  std::vector<std::int64_t> shape;
  std::vector<Element> values;
};

// A whole HDF5 file that scripts/make_parity_fixtures.py wrote, in memory. What it holds:
// tests/fixtures/parity/README.md. An array is named by its path in the file, e.g.
// "weights/model.norm.weight".
class Fixture {
 public:
  // Throws IoError naming the file, and the array or attribute that is missing or of another type.
  explicit Fixture(const std::filesystem::path& path);

  // The shape of the model: fields of configs/schema/model.proto, as its JSON form takes them.
  nlohmann::json config() const { return json("config"); }
  nlohmann::json json(const std::string& attribute) const;
  double number(const std::string& attribute) const;

  const FixtureArray<float>& floats(const std::string& name) const;
  const FixtureArray<std::int32_t>& integers(const std::string& name) const;
  // The only element of a float array.
  float scalar(const std::string& name) const;
  // All float arrays "folder/KEY" by their KEY: folder "weights" or "gradients".
  std::map<std::string, FixtureArray<float>> folder(const std::string& folder) const;
  bool has(const std::string& name) const {
    return floats_.contains(name) || integers_.contains(name);
  }

 private:
  friend class FixtureReader;
  std::string path_;
  std::map<std::string, std::string> strings_;
  std::map<std::string, double> numbers_;
  std::map<std::string, FixtureArray<float>> floats_;
  std::map<std::string, FixtureArray<std::int32_t>> integers_;
};

// tests/fixtures/parity/NAME.h5 of the source tree.
Fixture parity_fixture(const std::string& name);

}  // namespace fathom::testing
