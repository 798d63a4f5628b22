#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "rl/problem_prompt.h"
#include "rl/problems/problem.h"
#include "rl/sample_statistics.h"
#include "rl/verifiers/extract.h"
#include "rl/verifiers/judge.h"
#include "trainer/generation/generator.h"
#include "trainer/generation/text.h"

namespace fathom::rl {

struct ProblemSamplingOptions {
  std::int64_t num_samples = 1;            // of each problem
  trainer::GenerationOptions generation;   // with the vocabulary and what ends a completion
  std::function<void()> progress = [] {};  // called on every rank as tokens are drawn
};

// Completions of every problem, a problem's back to back. A sample is a function of weights,
// generation options, the problem's id and prompt, and its number among the problem's samples, as
// trainer::Generator says; no two problems have the same id. Collective over the generator's mesh,
// with the same arguments on all ranks; the same result on all. Throws ConfigError for no problem,
// and what the generator throws.
std::vector<trainer::Completion> sample_problems(trainer::Generator& generator,
                                                 const data::Tokenizer& tokenizer,
                                                 std::span<const Problem> problems,
                                                 const EncodeProblem& encode,
                                                 const ProblemSamplingOptions& options);

struct ProblemEvaluationOptions {
  ProblemSamplingOptions sampling;
  std::vector<std::int64_t> ks;  // of pass@k and maj@k, each in 1 .. sampling.num_samples
  trainer::CompletionEnd end;    // the generation's
  // Thinking is open, too, where a problem ends in <think> as the model reads it.
  ExtractionOptions extraction{.mode = ExtractionMode::kLenient};
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

// Draws completions of every problem as sample_problems() does, judges them and counts. Votes are
// answers in normalized form (rl/verifiers/normalize.h). Throws, besides, ConfigError for a problem
// without a known verifier and a k out of range.
ProblemEvaluation evaluate_problems(trainer::Generator& generator, const data::Tokenizer& tokenizer,
                                    std::span<const Problem> problems, const EncodeProblem& encode,
                                    const ProblemEvaluationOptions& options);

}  // namespace fathom::rl
