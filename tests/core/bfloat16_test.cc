#include "core/bfloat16.h"

#include <cmath>
#include <limits>

#include "tests/support/catch.h"

using namespace fathom;

namespace {

float rounded(float x) { return static_cast<float>(BFloat16(x)); }

}  // namespace

TEST_CASE("BFloat16 rounds to nearest, ties to even") {
  CHECK(rounded(1.0F) == 1.0F);
  CHECK(rounded(1.0F + 0x1p-8F) == 1.0F);               // tie: down to even
  CHECK(rounded(1.0F + 0x3p-8F) == 1.0F + 0x2p-7F);     // tie: up to even
  CHECK(rounded(1.0F + 0x1.01p-8F) == 1.0F + 0x1p-7F);  // just above a tie
  CHECK(rounded(-1.0F - 0x1.01p-8F) == -1.0F - 0x1p-7F);
  CHECK(BFloat16(1.0F).bits() == 0x3f80);
}

TEST_CASE("BFloat16 keeps infinities, NaN, signed zeros and overflows to infinity") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(rounded(infinity) == infinity);
  CHECK(rounded(-infinity) == -infinity);
  CHECK(std::isnan(rounded(std::numeric_limits<float>::quiet_NaN())));
  CHECK(std::isnan(rounded(std::numeric_limits<float>::signaling_NaN())));
  CHECK(rounded(std::numeric_limits<float>::max()) == infinity);
  CHECK(std::signbit(rounded(-0.0F)));
}
