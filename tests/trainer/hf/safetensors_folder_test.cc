#include "trainer/hf/safetensors_folder.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace fathom;
using namespace fathom::test;
using namespace fathom::trainer;

namespace fs = std::filesystem;

namespace {

void write(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

// A file with one BF16 tensor of as many elements as `data` has pairs of bytes.
std::string file_of(const std::string& name, const std::string& data) {
  const SafetensorsEntry entry{
      name, WeightDType::kBFloat16, {std::ssize(data) / 2}, 0, std::ssize(data)};
  return write_safetensors_header(std::span(&entry, 1)) + data;
}

std::string index_of(const std::string& map) { return concat(R"({"weight_map":{)", map, "}}"); }

std::string error_of_folder(const fs::path& folder) {
  try {
    const SafetensorsFolder opened(folder);
    return "";
  } catch (const ConfigError& error) {
    return error.message();
  }
}

// A folder of two files, the tensors a and b, and their index.
void write_two(const fs::path& folder) {
  write(folder / "one.safetensors", file_of("a", "abcdef"));
  write(folder / "two.safetensors", file_of("b", "xy"));
  write(folder / kSafetensorsIndexName, index_of(R"("a":"one.safetensors","b":"two.safetensors")"));
}

}  // namespace

TEST_CASE("a folder of several files reads as one set of tensors") {
  const TemporaryFolder folder;
  write_two(folder.path());
  SafetensorsFolder opened(folder.path());
  CHECK(opened.names() == std::vector<std::string>{"a", "b"});
  CHECK(opened.size_bytes() == 8);
  CHECK(opened.find("c") == nullptr);
  CHECK(opened.path_of("b") == folder.path() / "two.safetensors");
  std::string text(3, ' ');
  opened.read(*opened.find("a"), 2, std::as_writable_bytes(std::span(text)));
  CHECK(text == "cde");
}

TEST_CASE("an index that leads elsewhere, or disagrees with its files, is refused") {
  const TemporaryFolder folder;
  const fs::path index = folder.path() / kSafetensorsIndexName;
  write_two(folder.path());
  fs::create_directory(folder.path() / "sub");
  write(folder.path() / "sub" / "three.safetensors", file_of("c", "zz"));
  const std::string one = R"("a":"one.safetensors",)";
  struct Row {
    std::string index, message;
  };
  const std::vector<Row> rows{
      {index_of(one + R"("b":"../two.safetensors")"), "tensor b is said to be in something else"},
      {index_of(one + R"("c":"sub/three.safetensors")"), "tensor c is said to be in something"},
      {index_of(one + concat(R"("b":")", (folder.path() / "two.safetensors").string(), "\"")),
       "tensor b is said to be in something else"},
      {index_of(one + R"("b":"two.safetensors\u0000.safetensors")"), "in something else"},
      {index_of(one + R"("b":"..safetensors")"), "in something else"},
      {index_of(one + R"("b":"two.bin")"), "in something else"},
      {index_of(one + R"("b":2)"), "in something else"},
      {index_of(one + R"("b":"two.safetensors","b":"one.safetensors")"), "twice in one object"},
      {index_of(one + R"("b":"none.safetensors")"), "none.safetensors is missing"},
      {index_of(one + R"("b":"one.safetensors")"), "one.safetensors: tensor b, which"},
      {index_of(R"("a":"one.safetensors","b":"two.safetensors","c":"two.safetensors")"),
       "two.safetensors: tensor c, which"},
      {index_of(R"("b":"two.safetensors","c":"one.safetensors")"), "one.safetensors: tensor c"},
      {R"({"weight_map":[]})", "no object \"weight_map\""},
      {R"([])", "no object \"weight_map\""},
      {R"({"weight_map":{)", "not valid JSON"},
      {std::string(70, '[') + std::string(70, ']'), "nested deeper"},
  };
  for (const Row& row : rows) {
    INFO(row.index);
    write(index, row.index);
    CHECK_THAT(error_of_folder(folder.path()), Catch::Contains(row.message));
  }
  write(folder.path() / "two.safetensors", file_of("a", "xy"));
  write(index, index_of(one + R"("b":"two.safetensors")"));
  CHECK_THAT(error_of_folder(folder.path()), Catch::Contains("two.safetensors: tensor a is in"));
}

TEST_CASE("a tensor that the index does not know is refused") {
  const TemporaryFolder folder;
  write_two(folder.path());
  write(folder.path() / kSafetensorsIndexName, index_of(R"("a":"one.safetensors")"));
  REQUIRE(error_of_folder(folder.path()).empty());
  const std::vector<SafetensorsEntry> two{{"a", WeightDType::kBFloat16, {1}, 0, 2},
                                          {"z", WeightDType::kBFloat16, {1}, 2, 4}};
  write(folder.path() / "one.safetensors", write_safetensors_header(two) + "abcd");
  CHECK_THAT(error_of_folder(folder.path()),
             Catch::Contains("one.safetensors: tensor z is not in"));
}

TEST_CASE("links, cut files and unclear folders are refused") {
  const TemporaryFolder folder;
  CHECK_THAT(error_of_folder(folder.path()), Catch::Contains("has neither"));
  write_two(folder.path());
  fs::rename(folder.path() / "two.safetensors", folder.path() / "real");
  fs::create_symlink(folder.path() / "real", folder.path() / "two.safetensors");
  CHECK_THAT(error_of_folder(folder.path()), Catch::Contains("two.safetensors is a symbolic link"));
  fs::remove(folder.path() / "two.safetensors");
  const std::string whole = file_of("b", "xy");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    INFO(size);
    write(folder.path() / "two.safetensors", whole.substr(0, size));
    CHECK(error_of_folder(folder.path()).starts_with((folder.path() / "two.safetensors").string()));
  }
  write(folder.path() / kSafetensorsName, file_of("a", "ab"));
  CHECK_THAT(error_of_folder(folder.path()), Catch::Contains("has both"));
}
