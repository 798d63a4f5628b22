#include "trainer/hf/block_scale.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/rng.h"
#include "tests/support/catch.h"
#include "trainer/hf/weight_dtype.h"

using namespace fathom;
using namespace fathom::trainer;

namespace {

// FP8 weights as published ones come about: the largest magnitude of a block becomes 448.
struct Quantized {
  std::int64_t rows, columns;
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
};

// By the definition, element by element.
Quantized quantize_as_published(const std::vector<float>& values, std::int64_t rows,
                                std::int64_t columns, bool power_of_two) {
  const std::int64_t across = (columns + 127) / 128;
  Quantized made{rows, columns, std::vector<std::uint8_t>(values.size()),
                 std::vector<float>(static_cast<std::size_t>((rows + 127) / 128 * across))};
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    float& largest =
        made.scales[static_cast<std::size_t>(i / columns / 128 * across + i % columns / 128)];
    largest = std::max(largest, std::abs(values[static_cast<std::size_t>(i)]));
  }
  for (float& scale : made.scales) {
    scale = power_of_two ? std::exp2(std::ceil(std::log2(scale / 448))) : scale / 448;
  }
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    const float scale =
        made.scales[static_cast<std::size_t>(i / columns / 128 * across + i % columns / 128)];
    made.codes[static_cast<std::size_t>(i)] =
        encode_e4m3(values[static_cast<std::size_t>(i)] / scale);
  }
  return made;
}

std::vector<float> normal_values(std::int64_t count, std::uint64_t seed, float deviation) {
  const RandomSource random(seed, "values");
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = deviation * random.normal(i);
  }
  return values;
}

std::vector<float> dequantized(const Quantized& q) {
  std::vector<float> values(q.codes.size());
  dequantize_blocks(q.codes, q.scales, q.columns, values);
  return values;
}

Quantized quantized(const std::vector<float>& values, std::int64_t rows, std::int64_t columns) {
  Quantized q{rows, columns, std::vector<std::uint8_t>(values.size()),
              std::vector<float>(
                  static_cast<std::size_t>(num_scale_blocks(rows) * num_scale_blocks(columns)))};
  quantize_blocks(values, columns, q.codes, q.scales);
  return q;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  bool same = a.size() == b.size();
  for (std::size_t i = 0; same && i < a.size(); ++i) {
    same = std::bit_cast<std::uint32_t>(a[i]) == std::bit_cast<std::uint32_t>(b[i]);
  }
  return same;
}

// Whether a block has no code above 224.
bool has_block_of_half_range(const Quantized& q) {
  std::vector<float> largest(q.scales.size());
  for (std::size_t i = 0; i < q.codes.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i) / q.columns;
    const auto column = static_cast<std::int64_t>(i) % q.columns;
    float& of_block =
        largest[static_cast<std::size_t>(row / 128 * num_scale_blocks(q.columns) + column / 128)];
    of_block = std::max(of_block, std::abs(decode_e4m3(q.codes[i])));
  }
  return *std::min_element(largest.begin(), largest.end()) <= 224.0F;
}

}  // namespace

TEST_CASE("a weight is its code times the scale of its block") {
  // Five blocks by three, the last ones of 3 rows and 2 columns; scales 1, 2, 3, ...
  constexpr std::int64_t kRows = 515, kColumns = 258;
  std::vector<std::uint8_t> codes(kRows * kColumns);
  std::vector<float> scales(15), values(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<std::uint8_t>(i % 0x7f);
  }
  for (std::size_t i = 0; i < scales.size(); ++i) {
    scales[i] = static_cast<float>(i + 1);
  }
  dequantize_blocks(codes, scales, kColumns, values);
  std::size_t wrong = 0;
  for (std::int64_t row = 0; row < kRows; ++row) {
    for (std::int64_t column = 0; column < kColumns; ++column) {
      const auto i = static_cast<std::size_t>(row * kColumns + column);
      const std::int64_t scale = row / 128 * 3 + column / 128 + 1;
      wrong += values[i] == decode_e4m3(codes[i]) * static_cast<float>(scale) ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("published FP8 weights come back bit for bit") {
  int num_compared = 0;
  for (const bool power_of_two : {false, true}) {
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      INFO(power_of_two << ' ' << seed);
      const std::int64_t rows = 130, columns = seed % 2 == 0 ? 200 : 16;
      const float deviation = 0.02F * static_cast<float>(seed + 1);
      const Quantized original = quantize_as_published(
          normal_values(rows * columns, seed, deviation), rows, columns, power_of_two);
      const std::vector<float> values = dequantized(original);
      const Quantized again = quantized(values, rows, columns);
      // A power of two that is a step too large for its block has the same floats with half of it.
      if (!power_of_two || !has_block_of_half_range(original)) {
        ++num_compared;
        CHECK(same_bits(again.scales, original.scales));
        CHECK(again.codes == original.codes);
      }
      CHECK(same_bits(dequantized(again), values));
    }
  }
  CHECK(num_compared > 60);
}

TEST_CASE("codes that do not reach 448 give the same floats again") {
  const RandomSource random(3, "codes");
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Quantized original{128,
                       128,
                       std::vector<std::uint8_t>(128 * 128),
                       {0.37F / (1.0F + static_cast<float>(seed))}};
    for (std::size_t i = 0; i < original.codes.size(); ++i) {
      // Small codes, denormal ones among them, of both signs; zeros of both signs too.
      original.codes[i] = static_cast<std::uint8_t>(random.below(seed << 20 | i, 0x30) |
                                                    (random.below(seed << 20 | i, 2) << 7));
    }
    const std::vector<float> values = dequantized(original);
    CHECK(same_bits(dequantized(quantized(values, 128, 128)), values));
  }
}

TEST_CASE("other weights get the scale that makes the largest 448") {
  std::vector<float> values = normal_values(128 * 128, 7, 1.0F);
  values[77] = -8.7F;
  const Quantized q = quantized(values, 128, 128);
  CHECK(q.scales[0] == 8.7F / 448);
  CHECK(q.codes[77] == 0xfe);
  const std::vector<float> again = dequantized(q);
  for (std::size_t i = 0; i < values.size(); ++i) {
    // Half a step of 2^-3 of the magnitude, or of the smallest step.
    const float step = std::max(std::abs(values[i]) / 8, q.scales[0] * 0x1p-9F);
    REQUIRE(std::abs(again[i] - values[i]) <= step / 2 * 1.001F);
  }
}

TEST_CASE("blocks of zeros and of the smallest floats are quantized") {
  const std::vector<float> zeros(128 * 128, 0.0F);
  CHECK(quantized(zeros, 128, 128).scales[0] == 1.0F);
  CHECK(same_bits(dequantized(quantized(zeros, 128, 128)), zeros));
  std::vector<float> tiny(128 * 128, 0.0F);
  tiny[1] = 0x1p-149F;
  CHECK(same_bits(dequantized(quantized(tiny, 128, 128)), tiny));
  // No scale gives all of these, and the usual one would be 0 as a float.
  for (std::size_t i = 0; i < 100; ++i) {
    tiny[i] = static_cast<float>(i) * 0x1p-149F;
  }
  const Quantized all = quantized(tiny, 128, 128);
  CHECK(all.scales[0] == 0x1p-126F);
  const std::vector<float> again = dequantized(all);
  for (std::size_t i = 0; i < tiny.size(); ++i) {
    REQUIRE(std::abs(again[i] - tiny[i]) <= 0x1p-136F);  // half of the smallest code
  }
}
