#pragma once

#include <cstdint>

#include "model/options.h"
#include "optim/adamw.h"
#include "tests/support/tiny_run.h"
#include "trainer/generation/generator.h"
#include "trainer/train_step.h"

// A small untrained model over bytes, which samples and is trained, on any layout.
namespace fathom::rl {

inline constexpr std::int64_t kPolicyLength = 32;  // of its rows and positions

// Every part of V3's architecture; sums as in EXACT.
model::ModelOptions policy_options();

class TinyPolicy {
 public:
  // Collective over `world`.
  TinyPolicy(const model::ModelOptions& options, const testing::Layout& layout,
             parallel::Communicator& world, Stream& stream);

  void initialize(std::uint64_t seed);
  model::PipelinedModel& model() { return run_.model(); }
  const parallel::Mesh& mesh() const { return run_.mesh(); }
  testing::TinyRun& run() { return run_; }
  trainer::TrainStep& train_step() { return train_step_; }
  trainer::Generator& generator() { return generator_; }
  // Adds this rank's part of weights, optimizer states and selection biases to whole tensors.
  void store(testing::Tensors& tensors);

 private:
  Stream* stream_;
  testing::TinyRun run_;
  optim::AdamW optimizer_;  // with weight decay
  trainer::TrainStep train_step_;
  trainer::Generator generator_;
};

}  // namespace fathom::rl
