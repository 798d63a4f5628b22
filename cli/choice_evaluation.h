#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/prompt_file.h"
#include "cli/session.h"
#include "cli/stored_model.h"
#include "rl/sample_statistics.h"
#include "trainer/likelihood.h"

namespace fathom::cli {

// A choice after a prompt, as the model reads both. As lm-evaluation-harness has it: white space at
// the end of the prompt belongs to the choice, and both are encoded as one text, of which the
// tokens after those of the prompt alone are scored. Where that text does not begin with the tokens
// of the prompt, as one crosses the border, the choice is encoded by itself.
trainer::ScoredText encode_continuation(std::vector<data::Tokenizer::TextOrToken> prompt,
                                        const std::string& choice,
                                        const data::Tokenizer& tokenizer);
// In a chat: the choice is an answer of its own.
trainer::ScoredText encode_answer(std::vector<std::int32_t> prompt, const std::string& choice,
                                  const data::Tokenizer& tokenizer);

// Of one question. Of equally likely choices the first is chosen.
struct QuestionScore {
  std::vector<double> log_likelihoods;  // nats, by choice
  std::size_t chosen = 0;               // by log-likelihood
  std::size_t chosen_per_byte = 0;      // by log-likelihood / UTF-8 bytes of the choice
};
QuestionScore score_question(const Question& question, std::vector<double> log_likelihoods);

struct ChoiceScores {
  std::vector<QuestionScore> questions;
  rl::MeanOverProblems accuracy;
  rl::MeanOverProblems accuracy_per_byte;
};

// texts: of the choices of all questions, one after another. Collective; the same on every rank.
ChoiceScores score_choices(const std::vector<Question>& questions,
                           const std::vector<trainer::ScoredText>& texts, const StoredModel& stored,
                           LoadedModel& loaded, Session& session);

}  // namespace fathom::cli
