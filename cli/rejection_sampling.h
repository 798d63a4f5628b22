#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "rl/problem_evaluation.h"

namespace fathom::cli {

// Rejection sampling (DeepSeek-R1, arXiv:2501.12948, section 2.3.3): of each problem's samples that
// are correct the first `most_per_problem` different ones, as JSON lines {"prompt", "completion"}
// for sft. `lead` is what stood between the problem's prompt and the completion.
std::string accepted_lines(std::span<const rl::Problem> problems,
                           std::span<const rl::EvaluatedSample> samples, const std::string& lead,
                           std::int64_t most_per_problem);

}  // namespace fathom::cli
