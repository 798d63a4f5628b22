#include "tests/rl/tiny_policy.h"

#include "tests/support/small_training.h"

namespace fathom::rl {

model::ModelOptions policy_options() {
  model::ModelOptions options = testing::exact(testing::small_options());
  options.vocab_size = 264;
  options.max_position = kPolicyLength;
  options.head_chunk_tokens = 12;  // several chunks in a micro-batch
  options.numerics.gradients.tokens_per_step = 16 * kPolicyLength;
  return options;
}

TinyPolicy::TinyPolicy(const model::ModelOptions& options, const testing::Layout& layout,
                       parallel::Communicator& world, Stream& stream)
    : stream_(&stream),
      run_(options, layout, world, stream),
      optimizer_(run_.model().parameters(), {.epsilon = 1e-3, .weight_decay = 0.1}, stream),
      train_step_(run_.model(), optimizer_, run_.mesh(), stream),
      generator_(run_.model(), run_.mesh(), stream) {}

void TinyPolicy::initialize(std::uint64_t seed) {
  model().initialize(seed);
  optimizer_.values_drawn(*stream_);
}

void TinyPolicy::store(testing::Tensors& tensors) {
  testing::StoreTensors store(tensors);
  optimizer_.visit_state(store);
  model().visit_state(store);
}

}  // namespace fathom::rl
