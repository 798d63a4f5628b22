#pragma once

#include <filesystem>

#include "parallel/comm/communicator.h"
#include "trainer/checkpoint/checkpoint.h"

namespace fathom::trainer {

// Loads the weights and selection biases alone of a checkpoint folder (.../step-NNNNNNNN), to start
// a new stage: optimizer states and progress stay as they are. Collective. Throws as
// load_checkpoint does, ConfigError when the path is no checkpoint.
void load_weights(const std::filesystem::path& checkpoint, const VisitState& state,
                  const CheckpointIdentity& expected, parallel::Communicator& world);

}  // namespace fathom::trainer
