#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/options.h"

namespace fathom::model {

struct PipelineOptions {
  int stages_per_rank = 1;            // above 1: interleaved
  std::vector<int> layers_per_stage;  // empty: balanced_layers()
  std::int64_t group_elements = 0;    // of parallel::ParameterFormat
  std::int64_t sequence_length = 0;   // of the tokens whose operations are balanced
};

// Which layers a pipeline stage holds, and whether it is an end of the pipeline.
struct StageOptions {
  int first_layer = 0;
  int num_layers = 0;
  bool is_first = true;
  bool is_last = true;
};

// Stage s is on rank s modulo num_ranks. Throws ConfigError when layers_per_stage is not one number
// for each stage, with all layers as their sum.
std::vector<StageOptions> cut_into_stages(const ModelOptions& options,
                                          const PipelineOptions& pipeline, int num_ranks);

// Floating-point operations that each stage takes for a token (model/flops.h): those of its layers,
// and on the last stage those of the head and the MTP modules. The embedding takes none.
std::vector<double> stage_flops(const ModelOptions& options, std::span<const StageOptions> stages,
                                std::int64_t sequence_length);

// Consecutive layers for each stage, 0 among the numbers, such that the stage with the most work
// has the least that is possible; behind that, that the squares of the ranks' work, as far as a
// stage's own work and `end_work` decide them, are least; behind that, fewer layers on earlier
// stages, whose ranks hold more micro-batches at a time.
//   layer_work  of each layer, not negative, in any unit
//   end_work    of what the last stage does beside its layers
std::vector<int> balanced_layers(std::span<const double> layer_work, double end_work, int num_ranks,
                                 int stages_per_rank);

}  // namespace fathom::model
