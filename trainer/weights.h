#pragma once

#include <filesystem>

#include "configs/run_config.h"
#include "core/stream.h"
#include "model/pipelined_model.h"
#include "parallel/comm/communicator.h"
#include "parallel/mesh.h"
#include "trainer/checkpoint/checkpoint.h"

namespace fathom::trainer {

// Loads the weights and selection biases alone of a checkpoint folder (.../step-NNNNNNNN), or of a
// run folder's newest, to start a new stage: optimizer states and progress stay as they are.
// Returns what the checkpoint says that it belongs to. Collective. Throws as load_checkpoint does,
// ConfigError when the path is no checkpoint.
CheckpointIdentity load_weights(const std::filesystem::path& checkpoint, const VisitState& state,
                                const CheckpointIdentity& expected, parallel::Communicator& world);

// The same into a model without optimizer, on every rank that holds a part of it: weights are those
// that the run computed with, rounded where its optimizer.parameter_dtype rounds them.
void load_model(const std::filesystem::path& checkpoint, const config::RunConfig& config,
                const CheckpointIdentity& expected, model::PipelinedModel& model,
                const parallel::Mesh& mesh, Stream& stream);

}  // namespace fathom::trainer
