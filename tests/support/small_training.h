#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "model/options.h"
#include "tests/support/tiny_run.h"

// A model of a few thousand weights, trained for a few steps on made-up tokens on any layout.
namespace fathom::testing {

inline constexpr std::int64_t kSmallSequences = 8;
inline constexpr std::int64_t kSmallLength = 16;

// Every part of V3's architecture.
model::ModelOptions small_options();
// The same in two layers, where what tensor parallelism cuts is made of multiples of 8, as
// configs/tensor_core_sizes.h asks for EXACT.
model::ModelOptions tensor_core_options();
// V2's router and balance losses.
model::ModelOptions with_v2_router(model::ModelOptions options);
// `options` summed as numerics.mode EXACT does.
model::ModelOptions exact(model::ModelOptions options);

struct RankFacts {
  std::map<std::string, std::int64_t> bytes_sent;  // last step
  std::int64_t num_parameters = 0;
  std::int64_t shard_elements = 0;  // weights that this rank owns
  std::int64_t gradient_bytes = 0;
  std::int64_t num_host_waits = 0;  // for the device, in the last step
};

struct Training {
  std::vector<trainer::StepResult> steps;  // of rank 0
  Tensors weights;                         // and optimizer states and selection biases
  std::vector<RankFacts> ranks;
};

struct SmallTraining {
  int num_steps = 5;
  Device device = {};
  double epsilon = 1e-3;             // Adam's
  bool has_stale_gradients = false;  // each step finds NaN in all memory of gradients
  int nan_step = -1;                 // a step whose last sequence has a gradient that is NaN
  // What the run is started on instead of the communicator of all ranks; for tests that break it.
  std::function<std::unique_ptr<parallel::Communicator>(parallel::Communicator&)> wrap;
  // Added to the seed of the initial weights, by rank.
  std::function<std::uint64_t(int rank)> seed_of_rank;
};

Training train(const model::ModelOptions& options, const Layout& layout,
               const SmallTraining& training = {});

// The first thing in which two runs differ; empty when they are the same bits.
std::string difference(const Training& a, const Training& b);

}  // namespace fathom::testing
