#include "cli/rejection_sampling.h"

#include <map>
#include <nlohmann/json.hpp>
#include <set>

namespace fathom::cli {

std::string accepted_lines(std::span<const rl::Problem> problems,
                           std::span<const rl::EvaluatedSample> samples,
                           const AcceptedFormat& format, std::int64_t most_per_problem) {
  using Json = nlohmann::ordered_json;
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
    const Json line = {
        {"prompt", rl::render_prompt(format.prompt_template, problems[sample.problem].prompt)},
        {"completion", format.lead + sample.judged_text}};
    lines += line.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
  }
  return lines;
}

}  // namespace fathom::cli
