#include "trainer/hf/weight_dtype.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "core/bfloat16.h"
#include "core/error.h"

namespace fathom::trainer {
namespace {

static_assert(std::endian::native == std::endian::little, "elements are read as they lie");

float decode_float16(std::uint16_t code) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x8000U) << 16;
  const std::uint32_t exponent = (code >> 10) & 0x1fU;
  const std::uint32_t mantissa = code & 0x3ffU;
  if (exponent == 0) {  // a multiple of 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
  }
  const std::uint32_t wide_exponent = exponent == 0x1fU ? 0xffU : exponent + (127 - 15);
  return std::bit_cast<float>(sign | wide_exponent << 23 | mantissa << 13);
}

template <class Code, class Decode>
void decode_each(std::span<const std::byte> bytes, std::span<float> values, Decode decode) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    Code code{};
    std::memcpy(&code, bytes.data() + i * sizeof code, sizeof code);
    values[i] = decode(code);
  }
}

template <class Encode>
void encode_each(std::span<const float> values, std::span<std::byte> bytes, Encode encode) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto code = encode(values[i]);
    std::memcpy(bytes.data() + i * sizeof code, &code, sizeof code);
  }
}

void check_sizes(WeightDType dtype, std::size_t bytes, std::size_t values) {
  FATHOM_CHECK(
      static_cast<std::int64_t>(bytes) == static_cast<std::int64_t>(values) * size_of(dtype), bytes,
      " bytes for ", values, " values of ", dtype);
}

}  // namespace

std::string_view to_string(WeightDType dtype) noexcept {
  switch (dtype) {
    case WeightDType::kFloat32:
      return "F32";
    case WeightDType::kBFloat16:
      return "BF16";
    case WeightDType::kFloat16:
      return "F16";
    case WeightDType::kFloat8E4M3:
      break;
  }
  return "F8_E4M3";
}

std::optional<WeightDType> parse_weight_dtype(std::string_view name) noexcept {
  for (const WeightDType dtype : {WeightDType::kFloat32, WeightDType::kBFloat16,
                                  WeightDType::kFloat16, WeightDType::kFloat8E4M3}) {
    if (name == to_string(dtype)) {
      return dtype;
    }
  }
  return std::nullopt;
}

std::ostream& operator<<(std::ostream& out, WeightDType dtype) { return out << to_string(dtype); }

std::int64_t size_of(WeightDType dtype) noexcept {
  switch (dtype) {
    case WeightDType::kFloat32:
      return 4;
    case WeightDType::kBFloat16:
    case WeightDType::kFloat16:
      return 2;
    case WeightDType::kFloat8E4M3:
      break;
  }
  return 1;
}

float decode_e4m3(std::uint8_t code) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80U) << 24;
  const std::uint32_t rest = code & 0x7fU;
  if (rest == 0x7fU) {
    return std::bit_cast<float>(sign | 0x7fc00000U);
  }
  if (rest < 8U) {  // a multiple of 2^-9
    const float magnitude = static_cast<float>(rest) * 0x1p-9F;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
  }
  return std::bit_cast<float>(sign | ((rest << 20) + ((127U - 7U) << 23)));
}

std::uint8_t encode_e4m3(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint8_t>((bits >> 24) & 0x80U);
  const float magnitude = std::abs(value);
  if (magnitude < 0x1p-6F) {  // a multiple of 2^-9: adding 2^14 rounds to one
    const float steps = ((magnitude + 0x1p14F) - 0x1p14F) * 0x1p9F;
    return sign | static_cast<std::uint8_t>(steps);
  }
  if (magnitude >= 448.0F) {
    return sign | 0x7eU;
  }
  // The exponent and the first 3 bits of the mantissa, rounded; the exponent's bias from 127 to 7.
  const std::uint32_t rest = bits & 0x7fffffffU;
  const std::uint32_t rounded = (rest + 0x7ffffU + ((rest >> 20) & 1U)) >> 20;
  return sign | static_cast<std::uint8_t>(rounded - ((127U - 7U) << 3));
}

void decode_weights(WeightDType dtype, std::span<const std::byte> bytes, std::span<float> values) {
  check_sizes(dtype, bytes.size(), values.size());
  switch (dtype) {
    case WeightDType::kFloat32:
      std::memcpy(values.data(), bytes.data(), bytes.size());
      break;
    case WeightDType::kBFloat16:
      decode_each<BFloat16>(bytes, values, [](BFloat16 code) { return static_cast<float>(code); });
      break;
    case WeightDType::kFloat16:
      decode_each<std::uint16_t>(bytes, values, decode_float16);
      break;
    case WeightDType::kFloat8E4M3:
      decode_each<std::uint8_t>(bytes, values, decode_e4m3);
      break;
  }
}

void encode_weights(WeightDType dtype, std::span<const float> values, std::span<std::byte> bytes) {
  check_sizes(dtype, bytes.size(), values.size());
  switch (dtype) {
    case WeightDType::kFloat32:
      std::memcpy(bytes.data(), values.data(), bytes.size());
      break;
    case WeightDType::kBFloat16:
      encode_each(values, bytes, [](float value) { return BFloat16(value).bits(); });
      break;
    case WeightDType::kFloat8E4M3:
      encode_each(values, bytes, encode_e4m3);
      break;
    case WeightDType::kFloat16:
      throw InternalError("weights are not written in F16");
  }
}

}  // namespace fathom::trainer
