#include "tests/kernels/slots.h"

#include <set>
#include <string>

#include "tests/support/catch.h"

namespace fathom::kernels {

TEST_CASE("Every operation has a CUDA kernel") {
  // Those that are still to be written.
  const std::set<std::string> missing{
      "attention_forward",     "attention_backward",       "pack_absorbed",
      "keep_latents_in_pages", "latent_attention_forward", "keep_in_pages",
      "paged_attention_forward"};
  for_each_slot([&](const auto& slot) {
    const std::string operation(slot.operation());
    INFO(operation);
    CHECK((slot.has(DeviceType::kCuda) || missing.contains(operation)));
  });
}

}  // namespace fathom::kernels
