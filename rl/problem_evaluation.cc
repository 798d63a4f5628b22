#include "rl/problem_evaluation.h"

#include <memory>
#include <string_view>

#include "core/error.h"
#include "rl/verifiers/normalize.h"
#include "trainer/generation/text.h"

namespace fathom::rl {
namespace {

std::vector<trainer::Prompt> make_prompts(std::span<const Problem> problems,
                                          const data::Tokenizer& tokenizer,
                                          const EncodeProblem& encode, std::int64_t num_samples) {
  std::vector<trainer::Prompt> prompts;
  for (const Problem& problem : problems) {
    trainer::Prompt prompt = trainer::make_prompt(tokenizer, problem.id, encode(problem));
    for (prompt.sample = 0; prompt.sample < num_samples; ++prompt.sample) {
      prompts.push_back(prompt);
    }
  }
  return prompts;
}

bool ends_in_thinking(std::string_view text) {
  return text.substr(0, text.find_last_not_of(" \t\r\n") + 1).ends_with("<think>");
}

// Of a sample that has its text.
void judge_sample(const Verifier& verifier, const ExtractionOptions& extraction,
                  EvaluatedSample& sample) {
  sample.judged_text =
      extraction.mode == ExtractionMode::kWhole ? sample.text.shown : sample.text.whole();
  sample.judgement = judge(sample.judged_text, verifier, extraction);
}

SampleOutcome outcome_of(const EvaluatedSample& sample) {
  return {.verdict = sample.judgement.verdict,
          .vote = normalize(sample.judgement.answer),
          .num_tokens = std::ssize(sample.completion.tokens),
          .is_cut_off = sample.completion.finish == trainer::FinishReason::kLength};
}

}  // namespace

std::vector<trainer::Completion> sample_problems(trainer::Generator& generator,
                                                 const data::Tokenizer& tokenizer,
                                                 std::span<const Problem> problems,
                                                 const EncodeProblem& encode,
                                                 const ProblemSamplingOptions& options) {
  if (problems.empty() || options.num_samples < 1) {
    throw ConfigError(concat("evaluation on problems: ", problems.size(), " problems with ",
                             options.num_samples, " samples each; want at least one of both"));
  }
  trainer::GenerationEvents events;
  events.step = [&](std::int64_t, const std::vector<trainer::Completion>&) { options.progress(); };
  return generator.generate(make_prompts(problems, tokenizer, encode, options.num_samples),
                            options.generation, events);
}

ProblemEvaluation evaluate_problems(trainer::Generator& generator, const data::Tokenizer& tokenizer,
                                    std::span<const Problem> problems, const EncodeProblem& encode,
                                    const ProblemEvaluationOptions& options) {
  const std::int64_t num_samples = options.sampling.num_samples;
  check_ks(options.ks, num_samples);
  std::vector<std::unique_ptr<const Verifier>> verifiers;
  std::vector<ExtractionOptions> extractions;
  for (const Problem& problem : problems) {
    verifiers.push_back(make_verifier(problem.verifier, problem.answer));
    ExtractionOptions& extraction = extractions.emplace_back(options.extraction);
    extraction.thinking_is_open =
        extraction.thinking_is_open || ends_in_thinking(tokenizer.decode(encode(problem)));
  }
  std::vector<trainer::Completion> completions =
      sample_problems(generator, tokenizer, problems, encode, options.sampling);
  ProblemEvaluation evaluation;
  std::vector<SampleOutcome> outcomes;
  for (std::size_t i = 0; i < completions.size(); ++i) {
    EvaluatedSample sample;
    sample.problem = i / static_cast<std::size_t>(num_samples);
    sample.sample = static_cast<std::int64_t>(i) % num_samples;
    sample.text = trainer::completion_text(tokenizer, completions[i], options.end);
    sample.completion = std::move(completions[i]);
    judge_sample(*verifiers[sample.problem], extractions[sample.problem], sample);
    outcomes.push_back(outcome_of(sample));
    evaluation.samples.push_back(std::move(sample));
  }
  evaluation.scores = score_problems(outcomes, num_samples, options.ks);
  return evaluation;
}

}  // namespace fathom::rl
