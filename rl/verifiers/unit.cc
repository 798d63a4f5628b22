#include "rl/verifiers/unit.h"

#include <algorithm>
#include <array>

namespace fathom::rl {
namespace {

constexpr auto kUnits = std::to_array<std::string_view>(
    {// length
     "mm", "cm", "dm", "km", "ft", "yd", "inch", "inches", "foot", "feet", "yard", "mile",
     "millimeter", "millimetre", "centimeter", "centimetre", "meter", "metre", "kilometer",
     "kilometre",
     // mass
     "mg", "kg", "lb", "oz", "milligram", "gram", "kilogram", "pound", "ounce", "ton", "tonne",
     // time
     "ms", "sec", "min", "hr", "millisecond", "second", "minute", "hour", "day", "week", "month",
     "year",
     // volume
     "ml", "mL", "milliliter", "millilitre", "liter", "litre", "gallon", "quart", "pint",
     // money
     "cent", "dollar", "euro", "USD", "EUR",
     // angles
     "deg", "degree", "rad", "radian",
     // physics
     "mph", "Hz", "kHz", "kW", "kWh", "watt", "volt", "ohm", "newton", "joule", "pascal", "kelvin",
     // nothing in particular
     "unit"});

constexpr auto kLetters = std::to_array<std::string_view>(
    {"m", "s", "h", "g", "l", "L", "N", "J", "W", "V", "K", "C", "F"});

std::string_view trim(std::string_view text) {
  const std::size_t begin = std::min(text.find_first_not_of(' '), text.size());
  const std::size_t end = text.find_last_not_of(' ');
  return text.substr(begin, end == std::string_view::npos ? 0 : end + 1 - begin);
}

template <std::size_t kCount>
bool is_in(const std::array<std::string_view, kCount>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// No quotient.
bool is_simple(std::string_view text, bool with_letters) {
  text = trim(text);
  for (const std::string_view prefix : {"square ", "cubic "}) {
    text.remove_prefix(text.starts_with(prefix) ? prefix.size() : 0);
  }
  for (const std::string_view suffix : {"^2", "^3"}) {
    text.remove_suffix(text.ends_with(suffix) ? suffix.size() : 0);
  }
  text = trim(text);
  if (is_in(kUnits, text) || (with_letters && is_in(kLetters, text))) {
    return true;
  }
  return text.size() >= 3 && text.ends_with('s') && is_in(kUnits, text.substr(0, text.size() - 1));
}

}  // namespace

bool is_percent_sign(std::string_view text) {
  text = trim(text);
  return text == "%" || text == "percent";
}

bool is_unit(std::string_view text, bool is_marked) {
  for (const std::string_view division : {"/", " per "}) {
    if (const std::size_t at = text.find(division); at != std::string_view::npos) {
      return is_simple(text.substr(0, at), true) &&
             is_simple(text.substr(at + division.size()), true);
    }
  }
  return is_simple(text, is_marked);
}

}  // namespace fathom::rl
