#pragma once

#include <string_view>

namespace fathom::rl {

// "%" or "percent"
bool is_percent_sign(std::string_view text);

// A unit of measurement: a known word or abbreviation (cm, meters, hours, dollars, ...), perhaps
// with "square" or "cubic" before or ^2 or ^3 behind it, and a quotient of two (km/h, miles per
// hour). Units of one letter could be variables: they count in quotients, and alone only where
// `is_marked`, as in \text{m}. Nothing else that is counted is a unit: not "apples", not "x".
bool is_unit(std::string_view text, bool is_marked);

}  // namespace fathom::rl
