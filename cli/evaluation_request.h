#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/generation_request.h"
#include "cli/problem_options.h"
#include "rl/verifiers/extract.h"

namespace fathom::cli {

// The command line of `fathom evaluate`.
struct EvaluationRequest {
  std::filesystem::path path;
  std::vector<std::string> overrides;
  std::vector<std::string> texts;
  std::int64_t num_sequences = 0;  // of each text; 0: all
  std::string problems_file;       // one of both, or neither
  std::optional<FamilyProblems> family;
  std::vector<std::int64_t> ks;  // of pass@k and maj@k
  std::string prompt_template = "{prompt}";
  rl::ExtractionMode extraction = rl::ExtractionMode::kLenient;
  std::string choices_file;
  std::string output;    // JSON lines of samples and questions
  std::string json;      // the results
  std::string accepted;  // conversations with the correct samples
  std::int64_t accepted_per_problem = 1;
  GenerationRequest generation;

  bool has_problems() const { return !problems_file.empty() || family.has_value(); }
  // The prompt template with the prompt in it.
  std::string render(const std::string& prompt) const;
  // As conversations see it: what is asked, with {prompt} in it, and how the answer begins. In a
  // chat all of the template is asked; else the answer begins after the prompt.
  std::string asked_template() const;
  std::string lead() const;
};

// Throws ConfigError.
EvaluationRequest read_evaluation_request(std::span<const std::string> arguments);

}  // namespace fathom::cli
