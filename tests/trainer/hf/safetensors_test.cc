#include "trainer/hf/safetensors.h"

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/support/catch.h"

using namespace fathom;
using namespace fathom::trainer;

namespace {

std::string error_of_header(const std::string& header, std::int64_t data_bytes) {
  try {
    parse_safetensors_header(header, data_bytes, "FILE");
    return "";
  } catch (const ConfigError& error) {
    return error.message();
  }
}

// {"a": ...} with the given fields.
std::string one(const std::string& fields) { return concat(R"({"a":{)", fields, "}}"); }

const char* const kGood = R"("dtype":"F32","shape":[2,3],"data_offsets":[0,24])";

struct Damaged {
  const char* what;
  std::string header;
  std::int64_t data_bytes;
  const char* message;
};

std::vector<Damaged> damaged_structure() {
  const std::string good = one(kGood);
  const std::string nul = std::string(R"({"a)") + '\0' + R"(":{)" + kGood + "}}";
  return {
      {"nothing", "", 24, "does not begin with '{'"},
      {"white space first", " " + good, 24, "does not begin with '{'"},
      {"an array", "[1]", 24, "does not begin with '{'"},
      {"a byte order mark", "\xef\xbb\xbf" + good, 24, "does not begin with '{'"},
      {"cut off", good.substr(0, good.size() - 1), 24, "not valid JSON"},
      {"something after it", good + "{}", 24, "not valid JSON"},
      {"a comma too many", R"({"a":{"dtype":"F32",},})", 24, "not valid JSON"},
      {"no UTF-8", "{\"\xff\":{" + std::string(kGood) + "}}", 24, "not valid JSON"},
      {"half a surrogate pair", R"({"\ud800":{)" + std::string(kGood) + "}}", 24, "not valid JSON"},
      {"a NUL", nul, 24, "not valid JSON"},
      {"an escaped NUL in a name", R"({"a\u0000b":{)" + std::string(kGood) + "}}", 24,
       "control characters"},
      {"an empty name", R"({"":{)" + std::string(kGood) + "}}", 24, "a tensor name of 0 bytes"},
      {"a name too long", concat("{\"", std::string(1025, 'x'), "\":{", kGood, "}}"), 24,
       "a tensor name of 1025 bytes"},
      {"a tensor that is no object", R"({"a":[1]})", 24, "tensor a: an array where"},
      {"a number for a tensor", R"({"a":1})", 24, "the number 1 where"},
      {"an object in a tensor", one(R"("dtype":{"x":1})"), 24, "an object where"},
      {"null", R"({"a":null})", 24, "null where"},
      {"deep nesting", R"({"a":)" + std::string(100000, '['), 24, "an array where"},
      {"metadata of numbers", R"({"__metadata__":{"format":1},"a":{)" + std::string(kGood) + "}}",
       24, "the number 1 where"},
      {"metadata that nests", R"({"__metadata__":{"format":{"a":"b"}}})", 0, "an object where"},
      {"metadata that is a list", R"({"__metadata__":[]})", 0, "an array where"},
      {"doubled metadata", R"({"__metadata__":{},"__metadata__":{}})", 0,
       "tensor __metadata__ is there twice"},
      {"a doubled key in metadata", R"({"__metadata__":{"a":"1","a":"2"}})", 0, "a doubled key in"},
  };
}

std::vector<Damaged> damaged_tensors() {
  const std::string second = R"("b":{"dtype":"BF16","shape":[4],"data_offsets":)";
  const auto two = [&](const std::string& offsets) {
    return concat(R"({"a":{)", kGood, "},", second, offsets, "}}");
  };
  const auto fields = [](const char* dtype, const char* shape, const char* offsets) {
    return concat(R"({"a":{"dtype":")", dtype, R"(","shape":)", shape, R"(,"data_offsets":)",
                  offsets, "}}");
  };
  return {
      {"a doubled tensor", concat(R"({"a":{)", kGood, R"(},"a":{)", kGood, "}}"), 24,
       "tensor a is there twice"},
      {"a doubled field", one(R"("dtype":"F32","dtype":"BF16","shape":[2],"data_offsets":[0,4])"),
       4, "tensor a: field \"dtype\" is there twice"},
      {"an unknown field", one(concat(kGood, R"(,"stride":[3,1])")), 24,
       "field \"stride\" is unknown"},
      {"no dtype", one(R"("shape":[2],"data_offsets":[0,4])"), 4, "tensor a: no dtype"},
      {"no shape", one(R"("dtype":"F32","data_offsets":[0,4])"), 4, "tensor a: no shape"},
      {"no offsets", one(R"("dtype":"F32","shape":[1])"), 4, "tensor a: no data_offsets"},
      {"an unknown dtype", fields("F31", "[6]", "[0,24]"), 24, "tensor a: dtype \"F31\""},
      {"integers", fields("I64", "[3]", "[0,24]"), 24, "tensor a: dtype \"I64\""},
      {"another dtype than the size", fields("BF16", "[2,3]", "[0,24]"), 24,
       "make 12 bytes, data_offsets 24"},
      {"another shape than the size", fields("F32", "[2,4]", "[0,24]"), 24,
       "make 32 bytes, data_offsets 24"},
      {"a negative size", fields("F32", "[-2,-3]", "[0,24]"), 24, "the number -2 where"},
      {"a fraction", fields("F32", "[2.0,3]", "[0,24]"), 24, "the number 2.0 where"},
      {"an exponent", fields("F32", "[6e0]", "[0,24]"), 24, "the number 6e0 where"},
      {"a size beyond 2^63", fields("F32", "[9223372036854775808]", "[0,24]"), 24, "is too large"},
      {"a size beyond 2^64", fields("F32", "[99999999999999999999]", "[0,24]"), 24, "where"},
      {"sizes that overflow to the right one", fields("F32", "[4611686018427387904,4,6]", "[0,24]"),
       24, "make more than 2^63 bytes"},
      {"sizes that overflow to nothing", fields("F32", "[4294967296,4294967296]", "[0,0]"), 0,
       "make more than 2^63 bytes"},
      {"nine dimensions", fields("F32", "[1,1,1,1,1,1,1,1,6]", "[0,24]"), 24,
       "shape has more than 8"},
      {"three offsets", fields("F32", "[6]", "[0,24,24]"), 24, "data_offsets has more than 2"},
      {"one offset", fields("F32", "[6]", "[0]"), 24, "data_offsets has 1 numbers"},
      {"a list in a shape", fields("F32", "[[6]]", "[0,24]"), 24, "an array where"},
      {"negative offsets", fields("F32", "[6]", "[-24,0]"), 24, "the number -24 where"},
      {"offsets the wrong way round", fields("F32", "[6]", "[24,0]"), 24,
       "data_offsets [24, 0] are not in the 24 bytes"},
      {"offsets beyond the file", fields("F32", "[6]", "[0,24]"), 23,
       "data_offsets [0, 24] are not in the 23 bytes"},
      {"wild offsets", fields("F32", "[6]", "[9223372036854775783,9223372036854775807]"), 24,
       "are not in the 24 bytes"},
      {"an overlap", two("[20,28]"), 28, "tensor b begins at byte 20 of the data, inside"},
      {"the same place twice", concat(R"({"a":{)", kGood, R"(},"b":{)", kGood, "}}"), 24,
       "begins at byte 0 of the data, inside"},
      {"a hole", two("[26,34]"), 34,
       "tensor b begins at byte 26 of the data, after a hole from 24"},
      {"a hole at the beginning", fields("F32", "[5]", "[4,24]"), 24, "after a hole from 0"},
      {"bytes after the last tensor", two("[24,32]"), 33,
       "the tensors take 32 bytes, the file has 33"},
      {"no tensors but data", "{}", 1, "the tensors take 0 bytes, the file has 1"},
  };
}

void check_refused(const std::vector<Damaged>& table) {
  for (const Damaged& damaged : table) {
    INFO(damaged.what);
    const std::string message = error_of_header(damaged.header, damaged.data_bytes);
    CHECK(message.starts_with("FILE: "));
    CHECK_THAT(message, Catch::Contains(damaged.message));
    CHECK(message.size() < 1200);
  }
}

std::string prefix_error(std::uint64_t header_bytes, std::int64_t file_bytes,
                         std::size_t given = 8) {
  std::array<std::byte, 8> prefix{};
  std::memcpy(prefix.data(), &header_bytes, sizeof header_bytes);
  try {
    safetensors_header_bytes(std::span(prefix).first(given), file_bytes, "FILE");
    return "";
  } catch (const ConfigError& error) {
    return error.message();
  }
}

}  // namespace

TEST_CASE("a header gives its tensors in the order of their data") {
  const std::string header =
      R"({"b":{"shape":[4],"dtype":"BF16","data_offsets":[24,32]},"__metadata__":{"format":"pt"},)"
      R"("a":{"data_offsets":[0,24],"dtype":"F32","shape":[2,3]},)"
      R"("s":{"dtype":"F8_E4M3","shape":[],"data_offsets":[32,33]},)"
      R"("none":{"dtype":"F16","shape":[0,7],"data_offsets":[24,24]}}   )";
  const std::vector<SafetensorsEntry> entries = parse_safetensors_header(header, 33, "FILE");
  CHECK(entries == std::vector<SafetensorsEntry>{{"a", WeightDType::kFloat32, {2, 3}, 0, 24},
                                                 {"none", WeightDType::kFloat16, {0, 7}, 24, 24},
                                                 {"b", WeightDType::kBFloat16, {4}, 24, 32},
                                                 {"s", WeightDType::kFloat8E4M3, {}, 32, 33}});
}

TEST_CASE("empty tensors in one place are in the order of their names") {
  std::string header = "{";
  std::vector<SafetensorsEntry> ascending;
  for (int i = 0; i < 40; ++i) {
    const std::string name = concat("t", 10 + i * 7 % 40);
    header += concat(i > 0 ? "," : "", '"', name,
                     R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]})");
    ascending.push_back({concat("t", 10 + i), WeightDType::kFloat32, {0}, 0, 0});
  }
  CHECK(parse_safetensors_header(header + "}", 0, "FILE") == ascending);
}

TEST_CASE("what is written is read back, aligned") {
  const std::vector<SafetensorsEntry> entries{
      {"model.norm.weight", WeightDType::kBFloat16, {5}, 0, 10},
      {"\"quoted\" \xc3\xa9", WeightDType::kFloat32, {2, 1}, 10, 18}};
  const std::string bytes = write_safetensors_header(entries);
  CHECK(bytes.size() % 8 == 0);
  const std::int64_t length = safetensors_header_bytes(std::as_bytes(std::span(bytes)).first(8),
                                                       std::ssize(bytes) + 18, "x");
  CHECK(length == std::ssize(bytes) - 8);
  CHECK(parse_safetensors_header(bytes.substr(8), 18, "x") == entries);
}

TEST_CASE("damaged headers are refused, naming file and tensor") {
  REQUIRE(error_of_header(one(kGood), 24).empty());
  check_refused(damaged_structure());
  check_refused(damaged_tensors());
}

TEST_CASE("the length of a header is checked before anything is read") {
  CHECK(prefix_error(100, 108).empty());
  CHECK_THAT(prefix_error(0, 7, 7), Catch::Contains("7 bytes are too few"));
  CHECK_THAT(prefix_error(101, 108), Catch::Contains("is it cut off?"));
  CHECK_THAT(prefix_error(100'000'001, INT64_MAX), Catch::Contains("at most 100000000"));
  CHECK_THAT(prefix_error(UINT64_MAX, 108), Catch::Contains("at most 100000000"));
}
