#include "cli/choice_evaluation.h"

#include <algorithm>
#include <span>
#include <utility>

#include "core/error.h"
#include "trainer/generation/text.h"

namespace fathom::cli {
namespace {

trainer::ScoredText scored_text(const data::Tokenizer& tokenizer, std::vector<std::int32_t> prompt,
                                std::span<const std::int32_t> continuation) {
  trainer::ScoredText text;
  text.tokens = trainer::make_prompt(tokenizer, "", std::move(prompt)).tokens;
  text.first_scored = text.tokens.size();
  text.tokens.insert(text.tokens.end(), continuation.begin(), continuation.end());
  return text;
}

// Takes the white space at the end away and returns it.
std::string cut_space_at_end(std::vector<data::Tokenizer::TextOrToken>& parts) {
  std::string space;
  while (!parts.empty() && parts.back().token < 0) {
    std::string& text = parts.back().text;
    const std::size_t kept = text.find_last_not_of(" \t\r\n") + 1;  // npos + 1 is 0
    space.insert(0, text, kept);
    text.resize(kept);
    if (kept > 0) {
      break;
    }
    parts.pop_back();
  }
  return space;
}

std::size_t index_of_largest(const std::vector<double>& values) {
  return static_cast<std::size_t>(std::ranges::max_element(values) - values.begin());
}

}  // namespace

trainer::ScoredText encode_continuation(std::vector<data::Tokenizer::TextOrToken> prompt,
                                        const std::string& choice,
                                        const data::Tokenizer& tokenizer) {
  const std::string rest = cut_space_at_end(prompt) + choice;
  std::vector<std::int32_t> context = tokenizer.encode(prompt);
  prompt.push_back({.text = rest});
  const std::vector<std::int32_t> whole = tokenizer.encode(prompt);
  if (whole.size() > context.size() && std::equal(context.begin(), context.end(), whole.begin())) {
    const std::span<const std::int32_t> continuation = std::span(whole).subspan(context.size());
    return scored_text(tokenizer, std::move(context), continuation);
  }
  return encode_answer(std::move(context), rest, tokenizer);
}

trainer::ScoredText encode_answer(std::vector<std::int32_t> prompt, const std::string& choice,
                                  const data::Tokenizer& tokenizer) {
  return scored_text(tokenizer, std::move(prompt),
                     tokenizer.encode(choice, data::AddedTokens::kAsText));
}

QuestionScore score_question(const Question& question, std::vector<double> log_likelihoods) {
  FATHOM_CHECK(log_likelihoods.size() == question.choices.size(), log_likelihoods.size(), " of ",
               question.choices.size());
  QuestionScore score;
  std::vector<double> per_byte;
  for (std::size_t i = 0; i < log_likelihoods.size(); ++i) {
    per_byte.push_back(log_likelihoods[i] / static_cast<double>(question.choices[i].size()));
  }
  score.chosen = index_of_largest(log_likelihoods);
  score.chosen_per_byte = index_of_largest(per_byte);
  score.log_likelihoods = std::move(log_likelihoods);
  return score;
}

ChoiceScores score_choices(const std::vector<Question>& questions,
                           const std::vector<trainer::ScoredText>& texts, const StoredModel& stored,
                           LoadedModel& loaded, Session& session) {
  session.heartbeat().begin_phase("evaluate choices");
  trainer::LikelihoodOptions options;
  options.sequence_length = stored.config.train().sequence_length();
  options.micro_batch_size = stored.config.train().micro_batch_size();
  options.progress = [&] { session.heartbeat().count_progress(); };
  const std::vector<double> all =
      trainer::log_likelihoods(texts, loaded.model(), loaded.mesh(), loaded.stream(), options);
  ChoiceScores scores;
  std::vector<double> correct;
  std::vector<double> correct_per_byte;
  auto next = all.begin();
  for (const Question& question : questions) {
    const auto end = next + std::ssize(question.choices);
    scores.questions.push_back(score_question(question, std::vector<double>(next, end)));
    next = end;
    const QuestionScore& score = scores.questions.back();
    correct.push_back(score.chosen == question.answer ? 1.0 : 0.0);
    correct_per_byte.push_back(score.chosen_per_byte == question.answer ? 1.0 : 0.0);
  }
  scores.accuracy = rl::mean_over_problems(correct).value();
  scores.accuracy_per_byte = rl::mean_over_problems(correct_per_byte).value();
  return scores;
}

}  // namespace fathom::cli
