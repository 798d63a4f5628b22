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

// Losses of the training forward, of all completions in one batch of sequences padded to the
// model's max_position, one token of each sequence at a time: minus their sums are
// log-probabilities.
std::vector<std::vector<double>> training_losses(
    const GenerationModel& model, const std::vector<trainer::Prompt>& prompts,
    const std::vector<trainer::Completion>& completions);

void check_equal(const std::vector<trainer::Completion>& found,
                 const std::vector<trainer::Completion>& want);

}  // namespace fathom::testing
