#pragma once

#include <cstdint>
#include <string>

namespace fathom {

// 16 digits.
std::string hexadecimal(std::uint64_t value);
// C99's form, "0x1.8p+1": every bit of the number, for comparisons. "inf", "nan".
std::string hexadecimal(double value);

}  // namespace fathom
