// Every kind of layout against one rank within rounding: losses, gradient norms and final weights;
// and what each rank holds and sends against formulas, so that nothing is secretly replicated.
#include <cmath>

#include "tests/support/catch.h"
#include "tests/support/small_training.h"

using namespace fathom;
using namespace fathom::testing;

namespace {

constexpr std::int64_t kSequences = kSmallSequences;
constexpr std::int64_t kLength = kSmallLength;

// Difference of two tensors relative to the reference's norm.
double difference(const std::vector<float>& a, const std::vector<float>& reference) {
  double square = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    square += std::pow(static_cast<double>(a[i]) - static_cast<double>(reference[i]), 2);
    norm += std::pow(static_cast<double>(reference[i]), 2);
  }
  return norm > 0.0 ? std::sqrt(square / norm) : std::sqrt(square);
}

std::int64_t total_parameters(const Tensors& weights) {
  std::int64_t total = 0;
  for (const auto& [key, values] : weights) {
    total += key.ends_with(".weight") ? static_cast<std::int64_t>(values.size()) : 0;
  }
  return total;
}

const std::vector<Layout>& layouts() {
  static const std::vector<Layout> kTable = {// each axis alone: {pipeline, data, tensor, expert}
                                             {{1, 2, 1, 1}, {}, 1, {}},
                                             {{1, 4, 1, 1}, {}, 2, {}},
                                             {{1, 1, 2, 1}, {}, 4, {}},
                                             {{1, 1, 4, 1}, {}, 1, {}},
                                             {{2, 1, 1, 1}, {}, 1, {}},
                                             {{4, 1, 1, 1}, {}, 2, {}},
                                             {{1, 2, 1, 2}, {}, 1, {}},
                                             {{1, 4, 1, 4}, {}, 1, {}},
                                             {{1, 1, 2, 2}, {}, 1, {}},
                                             // each pair
                                             {{2, 2, 1, 1}, {}, 1, {}},
                                             {{2, 1, 2, 1}, {}, 1, {}},
                                             {{1, 2, 2, 1}, {}, 1, {}},
                                             {{1, 2, 2, 2}, {}, 1, {}},
                                             {{1, 2, 2, 4}, {}, 2, {}},
                                             {{2, 2, 1, 2}, {}, 1, {}},
                                             {{2, 1, 2, 2}, {}, 1, {}},
                                             // uneven stages, interleaving
                                             {{2, 1, 1, 1}, {1, {1, 3}}, 1, {}},
                                             {{2, 1, 1, 1}, {1, {4, 0}}, 1, {}},
                                             {{4, 1, 1, 1}, {1, {2, 0, 2, 0}}, 2, {}},
                                             {{2, 1, 1, 1}, {2, {}}, 1, {}},
                                             {{2, 2, 1, 2}, {2, {1, 1, 2, 0}}, 1, {}},
                                             // all four at 8 ranks
                                             {{2, 2, 2, 2}, {}, 1, {}},
                                             {{2, 2, 2, 4}, {}, 2, {}},
                                             {{2, 2, 2, 4}, {2, {}}, 1, {}}};
  return kTable;
}

}  // namespace

TEST_CASE("Every layout follows one rank in losses, gradient norms and final weights") {
  const model::ModelOptions options = small_options();
  Layout alone;
  alone.micro_batch_size = 2;
  const Training reference = train(options, alone);
  const std::int64_t total = total_parameters(reference.weights);
  for (const Layout& layout : layouts()) {
    INFO(testing::to_string(layout));
    const Training training = train(options, layout);
    for (std::size_t step = 0; step < reference.steps.size(); ++step) {
      INFO("step " << step);
      CHECK(training.steps[step].loss == Approx(reference.steps[step].loss).epsilon(1e-6));
      CHECK(training.steps[step].mtp_losses[0] ==
            Approx(reference.steps[step].mtp_losses[0]).epsilon(1e-6));
      CHECK(training.steps[step].grad_norm ==
            Approx(reference.steps[step].grad_norm).epsilon(1e-6));
    }
    for (const auto& [key, values] : reference.weights) {
      INFO(key);
      REQUIRE(training.weights.contains(key));
      CHECK(difference(training.weights.at(key), values) <
            (key.find(".exp_avg") == std::string::npos ? 1e-6 : 1e-5));
    }
    // Optimizer states: every element of the model on exactly one rank.
    std::int64_t owned = 0;
    for (const RankFacts& rank : training.ranks) {
      owned += rank.shard_elements;
    }
    CHECK(owned == total);
  }
}

TEST_CASE("Each rank holds the parameters that a formula says") {
  const model::ModelOptions o = small_options();
  const std::int64_t d = o.hidden_size;
  const std::int64_t heads = o.num_attention_heads;
  // Whole on every tensor rank; cut by tensor; one expert.
  const std::int64_t attention_whole = o.q_lora_rank * d + o.q_lora_rank +
                                       (o.kv_lora_rank + o.qk_rope_head_dim) * d + o.kv_lora_rank;
  const std::int64_t attention_cut = heads * o.qk_head_dim() * o.q_lora_rank +
                                     heads * (o.qk_nope_head_dim + o.v_head_dim) * o.kv_lora_rank +
                                     d * heads * o.v_head_dim;
  const std::int64_t expert = 3 * d * o.moe.intermediate_size;
  for (const Layout& layout : layouts()) {
    if (layout.mesh.pipeline > 1) {
      continue;
    }
    INFO(testing::to_string(layout));
    const std::int64_t t = layout.mesh.tensor;
    const std::int64_t e = layout.mesh.expert;
    const std::int64_t layer = attention_whole + attention_cut / t + 2 * d;
    const std::int64_t mixture = layer + o.moe.num_experts * d + o.moe.num_experts / e * expert +
                                 o.moe.num_shared_experts * expert / t;
    const std::int64_t dense = layer + 3 * d * o.intermediate_size / t;
    const std::int64_t ends = 2 * o.vocab_size * d / t + d;
    const std::int64_t mtp = mixture + 3 * d + 2 * d * d;
    const Training training = train(o, layout);
    for (const RankFacts& rank : training.ranks) {
      CHECK(rank.num_parameters == dense + 3 * mixture + ends + mtp);
    }
  }
}

TEST_CASE("Each rank sends along the tensor, pipeline and expert axes what a formula says") {
  model::ModelOptions o = small_options();
  o.mtp_depth = 0;
  o.moe.sequence_balance_coefficient = 0.0F;
  o.moe.forced_balance = true;
  constexpr std::int64_t kFloat = 4;
  const std::int64_t d = o.hidden_size;
  const model::RecomputeOptions recompute =
      GENERATE(model::RecomputeOptions{}, model::RecomputeOptions{.experts = true},
               model::RecomputeOptions{.layers = true});
  for (const parallel::MeshShape& mesh :
       {parallel::MeshShape{1, 1, 2, 1}, parallel::MeshShape{1, 2, 2, 4},
        parallel::MeshShape{2, 1, 1, 1}, parallel::MeshShape{2, 2, 1, 2}}) {
    Layout layout;
    layout.mesh = mesh;
    layout.recompute = recompute;
    INFO(testing::to_string(layout));
    const Training training = train(o, layout);
    const std::int64_t t = mesh.tensor;
    const std::int64_t tokens = kSequences / mesh.data * kLength;  // of a data rank, a step
    // A gather or a scattered sum of [tokens, width]: each rank sends its part, or others' parts,
    // to t - 1 ranks.
    const auto moved = [&](std::int64_t width) { return (t - 1) * (tokens / t) * width * kFloat; };
    const std::int64_t latent = o.kv_lora_rank + o.qk_rope_head_dim;
    // Forward: gather the latents, scatter the sum of outputs; backward: the reverse. A layer that
    // is computed again: the forward once more.
    const std::int64_t again = recompute.layers ? 1 : 0;
    const std::int64_t attention = (2 + again) * (moved(o.q_lora_rank) + moved(latent) + moved(d));
    // Forward gather and scatter, backward gather and scatter, and the gathered input once more for
    // the weight. Computed again: gathered, and not scattered, since its output is not needed.
    const std::int64_t mlp = (5 + again) * moved(d);
    const std::int64_t embedding = 2 * moved(d);
    // Gather in, scatter back; maximum, sum and target logit of each token, short enough to be
    // gathered whole, per micro-batch.
    const std::int64_t head = 2 * moved(d) + (t - 1) * 3 * tokens * kFloat;
    const std::int64_t tensor_bytes = o.num_layers * (attention + mlp) + embedding + head;
    std::int64_t expert_bytes = 0;
    for (const RankFacts& rank : training.ranks) {
      if (mesh.pipeline == 1) {
        CHECK(rank.bytes_sent.at("tensor") == tensor_bytes);
      } else {
        // One boundary: hidden states forward from the first rank, their gradients back from the
        // second.
        CHECK(rank.bytes_sent.at("pipeline") == tokens * d * kFloat);
      }
      expert_bytes += rank.bytes_sent.at("expert");
    }
    // Forced balance: slot j of token i goes to expert (i * top_k + j) mod experts. Rows travel out
    // and back, forward and backward; before them each layer's counts for other ranks' experts.
    // Where experts compute again, rows travel out once more, gates out and their gradients back.
    std::int64_t remote_slots = 0;
    const std::int64_t plane = mesh.data * t;
    for (std::int64_t token = 0; token < kSequences * kLength; ++token) {
      const std::int64_t data_rank = token / (kLength * kSequences / mesh.data);
      const std::int64_t in_micro_batch = token % kLength;
      const std::int64_t plane_rank = data_rank * t + in_micro_batch / (kLength / t);
      for (std::int64_t j = 0; j < o.moe.top_k; ++j) {
        const std::int64_t to =
            (token * o.moe.top_k + j) % o.moe.num_experts / (o.moe.num_experts / mesh.expert);
        remote_slots += to != plane_rank % mesh.expert ? 1 : 0;
      }
    }
    CHECK(plane % mesh.expert == 0);
    constexpr std::int64_t kCount = 8;
    const std::int64_t micro_batches = kSequences / mesh.data;
    const std::int64_t remote_experts = o.moe.num_experts - o.moe.num_experts / mesh.expert;
    const std::int64_t numbers_a_slot = recompute.keeps_experts() ? 4 * d : 5 * d + 2;
    CHECK(expert_bytes == 3 * remote_slots * numbers_a_slot * kFloat +
                              3 * plane * micro_batches * remote_experts * kCount);
  }
}
