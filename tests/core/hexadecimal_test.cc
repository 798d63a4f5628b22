#include "core/hexadecimal.h"

#include <cmath>
#include <cstdlib>
#include <limits>

#include "tests/support/catch.h"

namespace fathom {

TEST_CASE("hexadecimal numbers keep every bit and are those of C99") {
  CHECK(hexadecimal(3.0) == "0x1.8p+1");
  CHECK(hexadecimal(-0.0) == "-0x0p+0");
  CHECK(hexadecimal(std::nan("")) == "nan");
  CHECK(hexadecimal(-std::numeric_limits<double>::infinity()) == "-inf");
  for (const double value : {1.0 / 3.0, -1e-300, 5e-324, std::nextafter(5.0, 6.0), 1.7e308}) {
    CHECK(std::strtod(hexadecimal(value).c_str(), nullptr) == value);
  }
  CHECK(hexadecimal(std::uint64_t{0x1f}) == "000000000000001f");
  CHECK(hexadecimal(~std::uint64_t{0}) == "ffffffffffffffff");
}

}  // namespace fathom
