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
  std::int64_t peak_bytes = 0;                     // everything, at the highest point of a step
  std::map<std::string, std::int64_t> bytes_sent;  // per step, by axis
};

// Rows that the experts of the busiest rank are assumed to get, as a multiple of the mean: what the
// announced peak holds for.
inline constexpr double kAssumedImbalance = 1.25;

// `config` is resolved and valid. Ranks of one pipeline stage do the same work: the one with
// coordinates 0 stands for them.
std::vector<RankPlan> plan_ranks(const config::RunConfig& config,
                                 double assumed_imbalance = kAssumedImbalance);

// Parameters of the whole model, from its published shapes alone; MTP modules apart.
struct ParameterCount {
  std::int64_t main = 0;
  std::int64_t mtp = 0;
};
ParameterCount count_parameters(const config::Model& model);

// What --dry_run prints.
std::string describe_plan(const config::RunConfig& config);

}  // namespace fathom::trainer
