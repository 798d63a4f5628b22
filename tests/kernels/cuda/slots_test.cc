#include "tests/kernels/slots.h"

#include "tests/support/catch.h"

namespace fathom::kernels {

TEST_CASE("Every operation has a CUDA kernel, but for those of the CPU alone") {
  for_each_device_slot([](const auto& slot) {
    INFO(slot.operation());
    CHECK(slot.has(DeviceType::kCuda));
  });
  for_each_cpu_slot([](const auto& slot) {
    INFO(slot.operation());
    CHECK_FALSE(slot.has(DeviceType::kCuda));
  });
}

}  // namespace fathom::kernels
