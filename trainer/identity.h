#pragma once

#include <optional>
#include <string>

#include "configs/run_config.h"
#include "trainer/checkpoint/checkpoint.h"

namespace fathom::trainer {

inline constexpr const char* kProgramVersion = "0.1.0";

// The config that a checkpoint holds; nothing where this version cannot read it.
std::optional<config::RunConfig> stored_config(const CheckpointIdentity& identity);

// What a checkpoint of this run says of itself: every field of the model that its tensors or its
// function depend on.
CheckpointIdentity make_identity(const config::RunConfig& config,
                                 const std::string& tokenizer_hash);

}  // namespace fathom::trainer
