#pragma once

#include <vector>

#include "model/options.h"
#include "tests/support/tiny_run.h"
#include "trainer/generation/generator.h"

namespace fathom::testing {

// What generates, of initial weights, and on which device.
struct GenerationModel {
  model::ModelOptions options;
  Device device = {};
};

// What rank 0 gets on a layout.
std::vector<trainer::Completion> generate(const GenerationModel& model, const Layout& layout,
                                          const trainer::GenerationOptions& options,
                                          const std::vector<trainer::Prompt>& prompts);

// Checks that the log-probabilities of the completions are minus the losses of the training
// forward, bit for bit. The prompts are whole micro-batches of 4. Returns the number of tokens.
std::size_t check_training_losses(const GenerationModel& model,
                                  const std::vector<trainer::Prompt>& prompts,
                                  const std::vector<trainer::Completion>& completions);

void check_equal(const std::vector<trainer::Completion>& found,
                 const std::vector<trainer::Completion>& want);

}  // namespace fathom::testing
