#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "configs/run_config.h"

namespace fathom::trainer {

// What one rank will hold and send, found by running the real step on the meta device, which counts
// and computes nothing.
struct RankPlan {
  int rank = 0;
  std::int64_t num_parameters = 0;  // of this rank, replicas counted
  std::int64_t value_bytes = 0;
  std::int64_t gradient_bytes = 0;
  std::int64_t optimizer_bytes = 0;
  std::int64_t reference_bytes = 0;                // GRPO's frozen weights
  std::int64_t held_bytes = 0;                     // these and what little else stays between steps
  std::int64_t peak_bytes = 0;                     // everything, at the highest point of a step
  std::map<std::string, std::int64_t> bytes_sent;  // per step, by axis
};

// `config` is resolved and valid. Ranks of one pipeline stage do the same work: the one with
// coordinates 0 stands for them. The experts of a rank get mesh.assumed_imbalance times the mean.
std::vector<RankPlan> plan_ranks(const config::RunConfig& config);

// Parameters of the whole model, from its published shapes alone; MTP modules apart.
struct ParameterCount {
  std::int64_t main = 0;
  std::int64_t mtp = 0;
};
ParameterCount count_parameters(const config::Model& model);

// How a training step is spread over the pipeline ranks, in the operations of model/flops.h:
// recomputation, optimizer and communication take no time.
struct PipelinePlan {
  std::vector<std::vector<int>> layers;  // [pipeline rank][stage of the rank]
  std::vector<double> work;              // of each pipeline rank; their mean is 1
  std::int64_t num_micro_batches = 0;    // of a step and data rank
  double busy_share = 0.0;               // of all ranks' time, filling and draining counted
};
PipelinePlan plan_pipeline(const config::RunConfig& config);

}  // namespace fathom::trainer
