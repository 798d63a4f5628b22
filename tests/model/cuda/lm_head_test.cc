#include "model/lm_head.h"

#include "tests/model/head_run.h"
#include "tests/support/catch.h"

namespace fathom::testing {

TEST_CASE("The head by chunks on CUDA has the losses and gradients of its definition") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const bool weighs_losses = GENERATE(false, true);
  const HeadResult want = head_reference(dtype, weighs_losses);
  // In bfloat16 a logit is rounded once, a gradient of it twice and a sum of these once more.
  const double tolerance = dtype == DType::kBFloat16 ? 1.0 / 64 : 1e-5;
  for (const int ranks : {1, 2}) {
    for (const std::int64_t chunk_tokens : {std::int64_t{8}, std::int64_t{2048}}) {
      INFO(ranks << " tensor ranks, chunks of " << chunk_tokens << " tokens");
      const HeadResult found = run_head({.tensor_ranks = ranks,
                                         .chunk_tokens = chunk_tokens,
                                         .activations = dtype,
                                         .device = Device{DeviceType::kCuda, 0},
                                         .weighs_losses = weighs_losses});
      CHECK(found.loss == Approx(want.loss).epsilon(tolerance));
      CHECK(relative_gap(found.dx, want.dx) < tolerance);
      CHECK(relative_gap(found.weight_gradient, want.weight_gradient) < tolerance);
    }
  }
}

}  // namespace fathom::testing
