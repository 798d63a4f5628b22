#include "model/pipeline_cut.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "model/flops.h"

namespace fathom::model {
namespace {

// Sums that differ by less, relatively, differ by rounding alone.
constexpr double kTie = 1e-9;

struct Cut {
  double cost = 0.0;
  std::vector<int> layers;  // of each stage
};

constexpr double kNever = std::numeric_limits<double>::infinity();

struct Least {
  double cost = kNever;
  std::size_t index = 0;
};

// Of cost_of(0) to cost_of(count - 1) the least, and of equal ones the first.
template <class CostOf>
Least least_of(std::size_t count, const CostOf& cost_of) {
  Least least;
  for (std::size_t i = 0; i < count; ++i) {
    const double cost = cost_of(i);
    if (cost < least.cost * (1.0 - kTie)) {
      least = {cost, i};
    }
  }
  return least;
}

// The cut of layers into consecutive stages whose costs, joined from the first to the last, are
// least; of equal ones that with the fewest layers before the last stage, and so on.
//   cost(stage, begin, end)  of the stage with the layers [begin, end)
template <class Cost, class Join>
Cut cheapest_cut(std::size_t num_layers, std::size_t num_stages, const Cost& cost,
                 const Join& join) {
  std::vector<double> best(num_layers + 1, kNever);  // of the stages so far, by layers they hold
  best[0] = 0.0;
  std::vector<std::vector<std::size_t>> begins;  // [stage][end]
  for (std::size_t stage = 0; stage < num_stages; ++stage) {
    std::vector<double> next(num_layers + 1, kNever);
    std::vector<std::size_t>& begin_of = begins.emplace_back(num_layers + 1, 0);
    for (std::size_t end = 0; end <= num_layers; ++end) {
      const Least least = least_of(
          end + 1, [&](std::size_t begin) { return join(best[begin], cost(stage, begin, end)); });
      next[end] = least.cost;
      begin_of[end] = least.index;
    }
    best = std::move(next);
  }
  Cut cut{best[num_layers], std::vector<int>(num_stages)};
  for (std::size_t stage = num_stages, end = num_layers; stage-- > 0;) {
    const std::size_t begin = begins[stage][end];
    cut.layers[stage] = static_cast<int>(end - begin);
    end = begin;
  }
  return cut;
}

std::vector<double> layer_flops(const ModelOptions& options, std::int64_t sequence_length) {
  std::vector<double> flops;
  for (int layer = 0; layer < options.num_layers; ++layer) {
    flops.push_back(layer_flops_per_token(options, layer, sequence_length));
  }
  return flops;
}

}  // namespace

std::vector<int> balanced_layers(std::span<const double> layer_work, double end_work, int num_ranks,
                                 int stages_per_rank) {
  const auto ranks = static_cast<std::size_t>(num_ranks);
  const std::size_t num_stages = ranks * static_cast<std::size_t>(stages_per_rank);
  std::vector<double> work_before(layer_work.size() + 1, 0.0);
  std::partial_sum(layer_work.begin(), layer_work.end(), work_before.begin() + 1);
  const auto work = [&](std::size_t stage, std::size_t begin, std::size_t end) {
    return work_before[end] - work_before[begin] + (stage + 1 == num_stages ? end_work : 0.0);
  };
  const double most = cheapest_cut(layer_work.size(), num_stages, work, [](double a, double b) {
                        return std::max(a, b);
                      }).cost;
  // (sum of a rank's stages)^2 without the products of two stages, but for those with the last.
  const auto squares = [&](std::size_t stage, std::size_t begin, std::size_t end) {
    const double mine = work(stage, begin, end);
    const bool shares_rank_with_last = stage + 1 < num_stages && stage % ranks == ranks - 1;
    return mine > most * (1.0 + kTie) ? kNever
                                      : mine * (mine + (shares_rank_with_last ? 2 * end_work : 0));
  };
  return cheapest_cut(layer_work.size(), num_stages, squares, std::plus<>()).layers;
}

std::vector<StageOptions> cut_into_stages(const ModelOptions& options,
                                          const PipelineOptions& pipeline, int num_ranks) {
  const int num_stages = num_ranks * pipeline.stages_per_rank;
  const std::vector<int> counts =
      pipeline.layers_per_stage.empty()
          ? balanced_layers(layer_flops(options, pipeline.sequence_length),
                            end_flops_per_token(options, pipeline.sequence_length), num_ranks,
                            pipeline.stages_per_rank)
          : pipeline.layers_per_stage;
  const int sum = std::accumulate(counts.begin(), counts.end(), 0);
  if (static_cast<int>(counts.size()) != num_stages || sum != options.num_layers) {
    throw ConfigError(concat("mesh.layers_per_stage has ", counts.size(), " entries with ", sum,
                             " layers; the pipeline has ", num_stages, " stages and the model ",
                             options.num_layers, " layers"));
  }
  std::vector<StageOptions> stages;
  int first = 0;
  for (int stage = 0; stage < num_stages; ++stage) {
    const int count = counts[static_cast<std::size_t>(stage)];
    stages.push_back({first, count, stage == 0, stage == num_stages - 1});
    first += count;
  }
  return stages;
}

std::vector<double> stage_flops(const ModelOptions& options, std::span<const StageOptions> stages,
                                std::int64_t sequence_length) {
  std::vector<double> flops;
  for (const StageOptions& stage : stages) {
    double& mine = flops.emplace_back(0.0);
    for (int layer = stage.first_layer; layer < stage.first_layer + stage.num_layers; ++layer) {
      mine += layer_flops_per_token(options, layer, sequence_length);
    }
    mine += stage.is_last ? end_flops_per_token(options, sequence_length) : 0.0;
  }
  return flops;
}

}  // namespace fathom::model
