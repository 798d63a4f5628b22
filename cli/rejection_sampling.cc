#include "cli/rejection_sampling.h"

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "data/json.h"

namespace fathom::cli {

std::string accepted_lines(std::span<const rl::Problem> problems,
                           std::span<const rl::EvaluatedSample> samples,
                           const AcceptedFormat& format, std::int64_t most_per_problem) {
  std::map<std::size_t, std::set<std::string>> taken;
  std::string lines;
  for (const rl::EvaluatedSample& sample : samples) {
    std::set<std::string>& of_problem = taken[sample.problem];
    if (sample.judgement.verdict != rl::Verdict::kCorrect ||
        sample.completion.finish != trainer::FinishReason::kStop ||
        std::ssize(of_problem) >= most_per_problem ||
        !of_problem.insert(sample.judged_text).second) {
      continue;
    }
    const nlohmann::ordered_json line = {
        {"prompt", rl::render_prompt(format.prompt_template, problems[sample.problem].prompt)},
        {"completion", format.lead + sample.judged_text}};
    lines += data::json_line(line) + '\n';
  }
  return lines;
}

}  // namespace fathom::cli
