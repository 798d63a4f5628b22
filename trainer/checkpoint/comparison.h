#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/manifest.h"

namespace fathom::trainer {

// Where a checkpoint and the program that would load it differ, one line each; empty when they fit.
std::vector<std::string> compare_identity(const CheckpointIdentity& stored,
                                          const CheckpointIdentity& expected);
// The tensors and integers that `state` shows against those of the checkpoint. Sets bit i of
// `asked_for` (one number for 64 tensors) for each tensor i of the manifest that is shown, and
// counts the elements that are shown as owned.
std::vector<std::string> compare_state(const Manifest& manifest, const VisitState& state,
                                       LoadScope scope, std::vector<std::int64_t>& asked_for,
                                       std::int64_t& num_owned);
// The first ten, indented, each on a line of its own.
std::string list_differences(const std::vector<std::string>& differences);

}  // namespace fathom::trainer
