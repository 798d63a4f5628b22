#include "tests/kernels/slots.h"

#include "tests/support/catch.h"

namespace fathom::kernels {

TEST_CASE("Every operation has a CUDA kernel") {
  for_each_slot([](const auto& slot) {
    INFO(slot.operation());
    CHECK(slot.has(DeviceType::kCuda));
  });
}

}  // namespace fathom::kernels
