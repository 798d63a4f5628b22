#include "core/hexadecimal.h"

#include <array>
#include <charconv>
#include <cmath>
#include <string_view>

namespace fathom {

std::string hexadecimal(std::uint64_t value) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text(16, '0');
  for (std::size_t i = 16; i-- > 0; value >>= 4) {
    text[i] = kDigits[value & 15];
  }
  return text;
}

std::string hexadecimal(double value) {
  std::array<char, 32> buffer{};  // holds 14 digits, a point and an exponent
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(),
                                          std::abs(value), std::chars_format::hex);
  const std::string sign = std::signbit(value) ? "-" : "";
  return sign + (std::isfinite(value) ? "0x" : "") + std::string(buffer.data(), end);
}

}  // namespace fathom
