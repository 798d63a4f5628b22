#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "configs/run_config.h"
#include "data/document_start.h"
#include "data/evaluation_data.h"
#include "data/training_data.h"
#include "trainer/run_data.h"

namespace fathom::trainer {

// data.document_start.
data::DocumentStart make_document_start(const config::RunConfig& config);

// The training stream of token shards that a resolved config describes.
data::TrainingDataOptions make_training_data_options(const config::RunConfig& config);

// Held-out token shards as a resolved config has them evaluated. Throws IoError and ConfigError.
std::unique_ptr<data::EvaluationData> open_held_out_data(
    const config::RunConfig& config, const std::vector<std::filesystem::path>& paths);

// What a pretraining run reads: token shards, held-out shards and the tokenizer, opened and checked
// against each other and the model. Throws ConfigError and IoError naming file and field. Looks at
// files only; no other rank is involved.
RunSources open_token_data(const config::RunConfig& config);

}  // namespace fathom::trainer
