#pragma once

#include <bit>
#include <cstdint>

namespace fathom {

// The upper 16 bits of a float32. Converting from float rounds to nearest, ties to even; NaN stays
// NaN.
class BFloat16 {
 public:
  BFloat16() = default;
  explicit BFloat16(float value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const bool is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
    const std::uint32_t rounded = bits + 0x7fffU + ((bits >> 16) & 1U);
    bits_ = static_cast<std::uint16_t>(is_nan ? (bits >> 16) | 0x40U : rounded >> 16);
  }
  explicit operator float() const noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits_) << 16);
  }
  std::uint16_t bits() const noexcept { return bits_; }
  bool operator==(const BFloat16&) const = default;

 private:
  std::uint16_t bits_ = 0;
};

}  // namespace fathom
