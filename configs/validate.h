#pragma once

#include <string>
#include <vector>

#include "configs/schema/run.pb.h"

namespace fathom::config {

// What a config is to be used for; each asks for fields of its own. kInference asks for nothing to
// learn from, nor for batches that fit the layout.
enum class Use { kPretraining, kFineTuning, kReinforcement, kInference };

// Everything in a resolved config that contradicts itself, the model's equations or the number of
// ranks; one line each, with the fields and the numbers involved. Looks at no file. world_size 0:
// the program was not started under mpirun, any mesh will do.
std::vector<std::string> find_problems(const RunConfig& config, int world_size,
                                       Use use = Use::kPretraining);

// Throws one ConfigError with all of find_problems().
void validate(const RunConfig& config, int world_size, Use use = Use::kPretraining);

}  // namespace fathom::config
