#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <span>
#include <string_view>

namespace fathom::trainer {

// Element types that published weights come in. E4M3 is the one without infinities
// (arXiv:2209.05433): 4 bits of exponent, 3 of mantissa, up to 448.
enum class WeightDType { kFloat32, kBFloat16, kFloat16, kFloat8E4M3 };

// As safetensors headers spell them.
inline constexpr std::string_view kWeightDTypeNames = "F32, BF16, F16 or F8_E4M3";
std::string_view to_string(WeightDType dtype) noexcept;
std::optional<WeightDType> parse_weight_dtype(std::string_view name) noexcept;
std::ostream& operator<<(std::ostream& out, WeightDType dtype);
std::int64_t size_of(WeightDType dtype) noexcept;  // bytes

// values <- the numbers that the little-endian `bytes` stand for; exact.
void decode_weights(WeightDType dtype, std::span<const std::byte> bytes, std::span<float> values);
// bytes <- the values rounded to nearest, ties to even; E4M3 saturates at 448. Not for F16.
void encode_weights(WeightDType dtype, std::span<const float> values, std::span<std::byte> bytes);

float decode_e4m3(std::uint8_t code) noexcept;
std::uint8_t encode_e4m3(float value) noexcept;  // of a finite value

}  // namespace fathom::trainer
