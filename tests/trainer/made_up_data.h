#pragma once

#include <memory>

#include "configs/run_config.h"
#include "data/batch_source.h"

namespace fathom::testing {

// Packed documents of uneven lengths down to 1 token, padding, targets that do not count, drawn
// from the config's data.seed for its model and its sequences.
std::unique_ptr<data::BatchSource> made_up_training_data(const config::RunConfig& config);
// The same in another number of sequences than batches hold.
std::unique_ptr<data::HeldOutSource> made_up_held_out_data(const config::RunConfig& config);

}  // namespace fathom::testing
