#pragma once

#include <string>

#include "configs/run_config.h"
#include "tests/trainer/choices.h"

namespace fathom::testing {

struct ChangedField {
  std::string path;  // "model.moe.top_k"
  std::string value;
  bool is_small = true;  // no more work than before, by much
};

// Gives one number, switch or choice of model, mesh, train, optimizer or numerics a value that
// nobody has thought about.
ChangedField change_a_field(Choices& draws, config::RunConfig& config);

}  // namespace fathom::testing
