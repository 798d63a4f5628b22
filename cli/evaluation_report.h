#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/choice_evaluation.h"
#include "cli/text_evaluation.h"
#include "rl/problem_evaluation.h"

namespace fathom::cli {

// What `fathom evaluate` found; parts that were not asked for are empty.
struct EvaluationReport {
  std::filesystem::path checkpoint;
  std::vector<TextScore> texts;
  std::string problem_source;  // a file, or a family in words
  std::optional<rl::ProblemScores> problems;
  std::string choice_source;
  std::optional<ChoiceScores> choices;
};

// Tables for a terminal.
std::string to_table(const EvaluationReport& report);
// {"checkpoint", "texts": [...], "problems": {...}, "choices": {...}}; numbers with all their bits.
nlohmann::ordered_json to_json(const EvaluationReport& report);

// {"id", "sample", "prompt", "completion", "answer", "extracted", "verdict", "rule", "num_tokens",
// "finish"} in a line. Bytes that are no UTF-8 become U+FFFD.
std::string sample_line(const rl::Problem& problem, const std::string& prompt,
                        const rl::EvaluatedSample& sample);
// {"id", "log_likelihoods", "answer", "chosen", "chosen_per_byte"} in a line.
std::string question_line(const Question& question, const QuestionScore& score);

}  // namespace fathom::cli
