#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "rl/problem_evaluation.h"

namespace fathom::cli {

// Rejection sampling (DeepSeek-R1, arXiv:2501.12948, section 2.3.3): of each problem's samples that
// are correct the first `most_per_problem` different ones, as JSON lines {"prompt", "completion"}
// for sft. A completion is there as it was judged.
struct AcceptedFormat {
  std::string prompt_template = "{prompt}";  // what is asked
  std::string lead = {};                     // what the answer begins with
};
std::string accepted_lines(std::span<const rl::Problem> problems,
                           std::span<const rl::EvaluatedSample> samples,
                           const AcceptedFormat& format, std::int64_t most_per_problem);

}  // namespace fathom::cli
