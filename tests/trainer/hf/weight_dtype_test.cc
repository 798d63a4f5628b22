#include "trainer/hf/weight_dtype.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "tests/support/catch.h"

using namespace fathom;
using namespace fathom::trainer;

namespace {

// From the definition in arXiv:2209.05433, table 1: bias 7, no infinities, one NaN a sign.
double e4m3_by_definition(int code) {
  const int exponent = (code >> 3) & 15, mantissa = code & 7;
  const double magnitude = exponent == 0 ? mantissa / 8.0 * std::pow(2.0, -6)
                                         : (1 + mantissa / 8.0) * std::pow(2.0, exponent - 7);
  return code & 0x80 ? -magnitude : magnitude;
}

bool is_nan_code(int code) { return (code & 0x7f) == 0x7f; }

// The nearest code, the even one of two: by trying all of them.
int nearest_code(double value) {
  int best = std::signbit(value) ? 0x80 : 0;
  for (int code = 0; code < 256; ++code) {
    if (is_nan_code(code) || (code >= 0x80) != std::signbit(value)) {
      continue;
    }
    const double distance = std::abs(e4m3_by_definition(code) - value);
    const double least = std::abs(e4m3_by_definition(best) - value);
    if (distance < least || (distance == least && code % 2 == 0)) {
      best = code;
    }
  }
  return best;
}

float decode_one(WeightDType dtype, std::uint16_t code) {
  float value = 0.0F;
  decode_weights(dtype, std::as_bytes(std::span(&code, 1)), std::span(&value, 1));
  return value;
}

}  // namespace

TEST_CASE("every E4M3 code has its value and comes back from it") {
  CHECK(decode_e4m3(0x7e) == 448.0F);
  CHECK(decode_e4m3(0x01) == 0x1p-9F);
  for (int code = 0; code < 256; ++code) {
    INFO(code);
    const float value = decode_e4m3(static_cast<std::uint8_t>(code));
    if (is_nan_code(code)) {
      CHECK(std::isnan(value));
      continue;
    }
    CHECK(value == e4m3_by_definition(code));
    CHECK(std::signbit(value) == (code >= 0x80));
    CHECK(encode_e4m3(value) == code);
  }
}

TEST_CASE("floats become the nearest E4M3, ties the even one") {
  for (int code = 0; code < 0x7e; ++code) {
    const auto low = decode_e4m3(static_cast<std::uint8_t>(code));
    const auto high = decode_e4m3(static_cast<std::uint8_t>(code + 1));
    const float middle = (low + high) / 2;
    for (const float value : {middle, std::nextafter(middle, 0.0F), std::nextafter(middle, 1e9F),
                              low + (high - low) / 8}) {
      INFO(value);
      CHECK(encode_e4m3(value) == nearest_code(value));
      CHECK(encode_e4m3(-value) == nearest_code(-value));
    }
  }
  CHECK(encode_e4m3(449.0F) == 0x7e);
  CHECK(encode_e4m3(-1e30F) == 0xfe);
}

TEST_CASE("16-bit floats decode exactly") {
  CHECK(decode_one(WeightDType::kBFloat16, 0x3f80) == 1.0F);
  CHECK(decode_one(WeightDType::kBFloat16, 0x0001) == 0x1p-133F);
  CHECK(decode_one(WeightDType::kFloat16, 0x3c00) == 1.0F);
  CHECK(decode_one(WeightDType::kFloat16, 0xc248) == -3.140625F);
  CHECK(decode_one(WeightDType::kFloat16, 0x7bff) == 65504.0F);
  CHECK(decode_one(WeightDType::kFloat16, 0x0001) == 0x1p-24F);
  CHECK(decode_one(WeightDType::kFloat16, 0x83ff) == -0x3ffp-24F);
  CHECK(std::signbit(decode_one(WeightDType::kFloat16, 0x8000)));
  CHECK(std::isinf(decode_one(WeightDType::kFloat16, 0x7c00)));
  CHECK(std::isnan(decode_one(WeightDType::kFloat16, 0x7e00)));
}

TEST_CASE("every finite bfloat16 survives float32 and back") {
  std::vector<std::uint16_t> codes;
  for (unsigned code = 0; code < 0x10000; ++code) {
    if ((code & 0x7f80U) != 0x7f80U) {
      codes.push_back(static_cast<std::uint16_t>(code));
    }
  }
  std::vector<float> values(codes.size());
  decode_weights(WeightDType::kBFloat16, std::as_bytes(std::span(codes)), values);
  std::vector<std::uint16_t> again(codes.size());
  encode_weights(WeightDType::kBFloat16, values, std::as_writable_bytes(std::span(again)));
  CHECK(codes == again);
}
