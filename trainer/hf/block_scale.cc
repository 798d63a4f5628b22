#include "trainer/hf/block_scale.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "trainer/hf/weight_dtype.h"

namespace fathom::trainer {
namespace {

constexpr std::uint8_t kLargestCode = 0x7e;  // 448

// One block inside rows of `columns` elements.
struct Block {
  std::int64_t row_begin, row_end, column_begin, column_end;
};

template <class Visit>
void for_each_block(std::int64_t rows, std::int64_t columns, Visit visit) {
  for (std::int64_t row = 0; row < rows; row += kScaleBlock) {
    for (std::int64_t column = 0; column < columns; column += kScaleBlock) {
      visit(Block{row, std::min(row + kScaleBlock, rows), column,
                  std::min(column + kScaleBlock, columns)},
            static_cast<std::size_t>(row / kScaleBlock * num_scale_blocks(columns) +
                                     column / kScaleBlock));
    }
  }
}

// visit(index of the element) until it returns false; whether it never did.
template <class Visit>
bool all_elements(const Block& block, std::int64_t columns, Visit visit) {
  for (std::int64_t row = block.row_begin; row < block.row_end; ++row) {
    for (std::int64_t column = block.column_begin; column < block.column_end; ++column) {
      if (!visit(static_cast<std::size_t>(row * columns + column))) {
        return false;
      }
    }
  }
  return true;
}

bool reproduces(const Block& block, std::int64_t columns, std::span<const float> values,
                float scale) {
  return all_elements(block, columns, [&](std::size_t i) {
    const float again = decode_e4m3(encode_e4m3(values[i] / scale)) * scale;
    return std::bit_cast<std::uint32_t>(again) == std::bit_cast<std::uint32_t>(values[i]);
  });
}

// The scale of codes that the block comes from, if it does: one by which its largest magnitude is
// an E4M3 number, the largest one first, within the rounding of product and quotient.
std::optional<float> original_scale(const Block& block, std::int64_t columns,
                                    std::span<const float> values, float largest) {
  for (std::uint8_t code = kLargestCode; code > 0; --code) {
    const float near = largest / decode_e4m3(code);
    for (const float scale : {near, std::nextafter(near, 0.0F), std::nextafter(near, 2 * near)}) {
      if (scale > 0.0F && std::isfinite(scale) && reproduces(block, columns, values, scale)) {
        return scale;
      }
    }
  }
  return std::nullopt;
}

float choose_scale(const Block& block, std::int64_t columns, std::span<const float> values) {
  float largest = 0.0F;
  all_elements(block, columns, [&](std::size_t i) {
    largest = std::max(largest, std::abs(values[i]));
    return true;
  });
  if (largest == 0.0F) {
    return 1.0F;
  }
  // A quotient below the smallest float would be a division by zero.
  const float usual = std::max(largest / decode_e4m3(kLargestCode), 0x1p-126F);
  return original_scale(block, columns, values, largest).value_or(usual);
}

std::int64_t rows_of(std::size_t num_values, std::size_t num_scales, std::int64_t columns) {
  const std::int64_t rows = static_cast<std::int64_t>(num_values) / columns;
  FATHOM_CHECK(rows * columns == static_cast<std::int64_t>(num_values) &&
                   num_scale_blocks(rows) * num_scale_blocks(columns) ==
                       static_cast<std::int64_t>(num_scales),
               num_values, " values in rows of ", columns, " with ", num_scales, " scales");
  return rows;
}

}  // namespace

void dequantize_blocks(std::span<const std::uint8_t> codes, std::span<const float> scales,
                       std::int64_t columns, std::span<float> values) {
  FATHOM_CHECK(codes.size() == values.size(), codes.size(), " codes for ", values.size());
  for_each_block(rows_of(values.size(), scales.size(), columns), columns,
                 [&](const Block& block, std::size_t index) {
                   all_elements(block, columns, [&](std::size_t i) {
                     values[i] = decode_e4m3(codes[i]) * scales[index];
                     return true;
                   });
                 });
}

void quantize_blocks(std::span<const float> values, std::int64_t columns,
                     std::span<std::uint8_t> codes, std::span<float> scales) {
  FATHOM_CHECK(codes.size() == values.size(), codes.size(), " codes for ", values.size());
  for_each_block(rows_of(values.size(), scales.size(), columns), columns,
                 [&](const Block& block, std::size_t index) {
                   const float scale = choose_scale(block, columns, values);
                   scales[index] = scale;
                   all_elements(block, columns, [&](std::size_t i) {
                     codes[i] = encode_e4m3(values[i] / scale);
                     return true;
                   });
                 });
}

}  // namespace fathom::trainer
