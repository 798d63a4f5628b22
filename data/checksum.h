#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace fathom::data {

// XXH3-64 of the bytes.
std::uint64_t checksum(std::string_view bytes) noexcept;
std::uint64_t checksum(std::span<const std::byte> bytes) noexcept;
// 16 hexadecimal digits.
std::string to_hex(std::uint64_t value);

}  // namespace fathom::data
