#pragma once

#include <functional>
#include <span>
#include <string>

#include "cli/command_line.h"
#include "configs/validate.h"
#include "trainer/run_data.h"

namespace fathom::cli {

// What a command that trains does in a way of its own.
struct Training {
  config::Use use = config::Use::kPretraining;
  // Opens the data, before anything is allocated. Throws ConfigError and IoError.
  std::function<trainer::RunSources(const config::RunConfig&)> open_data;
  // Starts from weights: a checkpoint to resume from or train.init_from; refused without.
  bool needs_weights = false;
};

// Trains the run that the arguments describe, to its end or until it is asked to stop. -> exit code
int train(std::span<const std::string> arguments, Session& session, const Training& training);

}  // namespace fathom::cli
