#include "model/flops.h"

#include "tests/support/catch.h"
#include "tests/support/published_options.h"

namespace fathom::model {

TEST_CASE("The operations of a token are those worked out by hand for V2-Lite's widths") {
  ModelOptions options = test::published_options("lite-3b");
  // By layer: attention 6,291,456 + 1,179,648 + 2,097,152 + 4,194,304 weights; dense 67,239,936;
  // experts 131,072 + 8 x 8,650,752; head 264,765,440. Attention of 4,096 tokens: 20,971,520
  // forward a layer, and twice that backward.
  const double attention = 13762560.0;
  const double experts = 131072.0 + 8 * 8650752.0;
  const double weights = 5 * attention + 67239936.0 + 4 * experts + 264765440.0;
  const double scores = 3 * 20971520.0;
  CHECK(flops_per_token(options, 4096) == 6 * weights + 5 * scores);
  CHECK(flops_per_token(options, 4096) / 1e9 == Approx(4.384).margin(0.0005));

  options.mtp_depth = 1;
  const double module = attention + experts + 2 * 2048.0 * 2048.0 + 264765440.0;
  CHECK(flops_per_token(options, 4096) == 6 * (weights + module) + 6 * scores);
}

// The shares of a peak that others publish are counted so: 250 GFLOP a token for V3
// (arXiv:2505.09343, table 2), and by NVIDIA's Megatron Bridge with the MTP module and for
// Moonlight.
TEST_CASE("The operations of a token are those that published shares of a peak count") {
  ModelOptions v3 = test::published_options("deepseek-v3");
  CHECK(flops_per_token(v3, 4096) / 1e9 == Approx(260.64).margin(0.005));
  v3.mtp_depth = 0;
  CHECK(flops_per_token(v3, 4096) / 1e9 == Approx(250.45).margin(0.005));
  ModelOptions moonlight = test::published_options("moonlight-slice");
  moonlight.moe.num_experts = 64;  // of which the slice has an eighth
  CHECK(flops_per_token(moonlight, 4096) / 1e9 == Approx(17.17).margin(0.005));
}

TEST_CASE(
    "Queries through a latent count both of its matrices, and a model without experts its layers") {
  ModelOptions options = test::published_options("lite-3b");
  options.num_layers = 1;
  options.moe = {};
  const double plain = flops_per_token(options, 4096);
  options.q_lora_rank = 1536;
  const double with_latent = flops_per_token(options, 4096);
  CHECK(with_latent - plain == 6 * (2048.0 * 1536.0 + 1536.0 * 16 * 192 - 2048.0 * 16 * 192));
}

}  // namespace fathom::model
