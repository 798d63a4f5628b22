#include "core/log.h"

#include <sstream>

#include "tests/support/catch.h"

using namespace fathom;

TEST_CASE("rank 0 informs, every rank warns and says who it is") {
  std::ostringstream out;
  Log first(out, 0);
  Log third(out, 3);
  first.info("step ", 1);
  third.info("never shown");
  third.warning("loss is ", 0.5);
  CHECK(out.str() == "step 1\nrank 3: warning: loss is 0.5\n");
  CHECK(third.rank() == 3);
}
