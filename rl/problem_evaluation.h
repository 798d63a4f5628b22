#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "rl/problems/problem.h"
#include "rl/sample_statistics.h"
#include "rl/verifiers/extract.h"
#include "rl/verifiers/judge.h"
#include "trainer/generation/generator.h"
#include "trainer/generation/text.h"

namespace fathom::rl {

// What the model reads of a problem.
using EncodeProblem = std::function<std::vector<std::int32_t>(const Problem&)>;

struct ProblemEvaluationOptions {
  std::int64_t num_samples = 1;           // of each problem
  std::vector<std::int64_t> ks;           // of pass@k and maj@k, each in 1 .. num_samples
  trainer::GenerationOptions generation;  // with the vocabulary; what ends a completion: `end`
  trainer::CompletionEnd end;
  // Thinking is open, too, where a problem ends in <think> as the model reads it.
  ExtractionOptions extraction{.mode = ExtractionMode::kLenient};
  std::function<void()> progress = [] {};  // called on every rank as tokens are drawn
};

struct EvaluatedSample {
  std::size_t problem = 0;  // index
  std::int64_t sample = 0;  // of the problem
  trainer::Completion completion;
  trainer::CompletionText text;
  std::string judged_text;  // with the string that ended it, unless all of the text is the answer
  Judgement judgement;
};

struct ProblemEvaluation {
  std::vector<EvaluatedSample> samples;  // a problem's back to back
  ProblemScores scores;
};

// Draws completions of every problem, judges them and counts. A sample is a function of weights,
// generation options, the problem's id and prompt, and its number among the problem's samples, as
// trainer::Generator says; votes are answers in normalized form (rl/verifiers/normalize.h).
// Collective over the generator's mesh, with the same arguments on all ranks; the same result on
// all. Throws ConfigError for a problem without a known verifier, two problems of one id, a k out
// of range, no problem at all, and what the generator throws.
ProblemEvaluation evaluate_problems(trainer::Generator& generator, const data::Tokenizer& tokenizer,
                                    std::span<const Problem> problems, const EncodeProblem& encode,
                                    const ProblemEvaluationOptions& options);

}  // namespace fathom::rl
