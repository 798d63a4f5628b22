#pragma once

#include <cstdint>
#include <span>

namespace fathom::trainer {

// FP8 weights as DeepSeek-V3 publishes them (arXiv:2412.19437, section 3.3): E4M3 codes, and a
// float32 scale for each block of 128 x 128 elements, fewer at the lower and right edge:
//   weight[i][j] = code[i][j] * scale[i / 128][j / 128]
// The scales are the tensor NAME.weight_scale_inv of shape [ceil(rows / 128), ceil(columns / 128)].
// They multiply, in spite of their name.
inline constexpr std::int64_t kScaleBlock = 128;

constexpr std::int64_t num_scale_blocks(std::int64_t size) noexcept {
  return (size + kScaleBlock - 1) / kScaleBlock;
}

// values [rows, columns] <- the weights; rows begin at a block. float32, one rounding each.
void dequantize_blocks(std::span<const std::uint8_t> codes, std::span<const float> scales,
                       std::int64_t columns, std::span<float> values);

// The other way. A block that comes from such codes gets scales and codes that give the same floats
// again; where its largest code was 448, as in published weights, the very same scale and codes,
// unless another scale one bit away gives the same floats too (blocks of few elements). A block
// that did not reach 448 may get a smaller scale and larger codes. Any other block gets the scale
// (its largest magnitude) / 448; a block of zeros 1. Values are finite.
void quantize_blocks(std::span<const float> values, std::int64_t columns,
                     std::span<std::uint8_t> codes, std::span<float> scales);

}  // namespace fathom::trainer
