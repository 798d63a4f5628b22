#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "cli/command_line.h"
#include "configs/validate.h"
#include "trainer/run_data.h"
#include "trainer/training_loop.h"

namespace fathom::cli {

// What a run learns from, opened and checked before anything is allocated.
struct OpenedTask {
  std::string tokenizer_hash;
  std::function<std::unique_ptr<trainer::TrainingTask>(trainer::TrainingLoop&)> make;
};

// What a command that trains does in a way of its own.
struct Training {
  config::Use use = config::Use::kPretraining;
  // Throws ConfigError and IoError.
  std::function<OpenedTask(const config::RunConfig&)> open;
  // Starts from weights: a checkpoint to resume from or train.init_from; refused without.
  bool needs_weights = false;
};

// A task that learns from the data which `open_data` opens.
OpenedTask open_data_task(const config::RunConfig& config,
                          trainer::RunSources (*open_data)(const config::RunConfig&));

// Trains the run that the arguments describe, to its end or until it is asked to stop. -> exit code
int train(std::span<const std::string> arguments, Session& session, const Training& training);

}  // namespace fathom::cli
