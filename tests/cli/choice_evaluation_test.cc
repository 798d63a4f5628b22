#include "cli/choice_evaluation.h"

#include "core/error.h"
#include "data/prompt_template.h"
#include "data/tokenizer_json.h"
#include "tests/support/catch.h"

namespace fathom::cli {
namespace {

constexpr std::int32_t kAB = 256;
constexpr std::int32_t kSpaceY = 257;
constexpr std::int32_t kEnd = 258;

// Every byte, "ab", " y" and an end of sentence.
data::Tokenizer small_tokenizer() {
  data::TokenizerDefinition definition;
  for (int byte = 0; byte < 256; ++byte) {
    definition.tokens.emplace_back(1, static_cast<char>(byte));
  }
  definition.tokens.insert(definition.tokens.end(), {"ab", " y", "<|end_of_sentence|>"});
  definition.merges = {{'a', 'b', kAB}, {' ', 'y', kSpaceY}};
  definition.added_tokens = {{"<|end_of_sentence|>", kEnd, true}};
  return data::Tokenizer(data::write_tokenizer_json(definition));
}

using Tokens = std::vector<std::int32_t>;

void check_encoded(const std::string& prompt, const std::string& choice, const Tokens& tokens,
                   std::size_t first_scored) {
  const data::Tokenizer tokenizer = small_tokenizer();
  const trainer::ScoredText text = encode_continuation(
      data::PromptTemplate(tokenizer, "{prompt}").render(prompt), choice, tokenizer);
  INFO(prompt << "|" << choice);
  CHECK(text.tokens == tokens);
  CHECK(text.first_scored == first_scored);
}

}  // namespace

TEST_CASE("A choice is what follows the tokens of its prompt") {
  check_encoded("x", "z", {'x', 'z'}, 1);
  check_encoded("x", " y", {'x', kSpaceY}, 1);
  // The space goes with the choice, as in running text.
  check_encoded("x ", "y", {'x', kSpaceY}, 1);
  check_encoded("x \n", "z", {'x', ' ', '\n', 'z'}, 1);
  // "ab" crosses the border: the prompt keeps its tokens.
  check_encoded("xa", "b", {'x', 'a', 'b'}, 2);
  check_encoded("xa", "bab", {'x', 'a', 'b', kAB}, 2);
  // Something must stand before the first token.
  check_encoded("", "ab", {kEnd, kAB}, 1);
  check_encoded(" ", "y", {kEnd, kSpaceY}, 1);
}

TEST_CASE("A choice follows a template with tokens of its own, and forges none") {
  const data::Tokenizer tokenizer = small_tokenizer();
  const std::string end = "<|end_of_sentence|>";
  const auto encoded = [&](const std::string& around, const std::string& prompt,
                           const std::string& choice) {
    return encode_continuation(data::PromptTemplate(tokenizer, around).render(prompt), choice,
                               tokenizer);
  };
  const trainer::ScoredText behind = encoded("{prompt}" + end + " \n", "x", "z");
  CHECK(behind.tokens == Tokens{'x', kEnd, ' ', '\n', 'z'});
  CHECK(behind.first_scored == 2);
  const trainer::ScoredText before = encoded(end + "{prompt} ", "x ", "y");
  CHECK(before.tokens == Tokens{kEnd, 'x', ' ', kSpaceY});
  CHECK(before.first_scored == 2);
  CHECK(encoded("{prompt}", end, end).tokens.size() == 2 * end.size());
}

TEST_CASE("In a chat a choice is an answer of its own") {
  const data::Tokenizer tokenizer = small_tokenizer();
  const trainer::ScoredText text = encode_answer({'U', 'x', ' ', 'A'}, "y", tokenizer);
  CHECK(text.tokens == Tokens{'U', 'x', ' ', 'A', 'y'});
  CHECK(text.first_scored == 4);
}

TEST_CASE("The likeliest choice, as it is and per byte of its text") {
  const Question question{"0", "", {"two bytes", "\xc3\xa9", "z"}, 0};
  const QuestionScore score = score_question(question, {-9.0, -4.0, -3.0});
  CHECK(score.chosen == 2);
  CHECK(score.chosen_per_byte == 0);  // -1 of 9 bytes, -2 of 2, -3 of 1
  CHECK(score_question(question, {-9.0, -2.0, -2.0}).chosen == 1);
  CHECK(score_question(question, {-9.0, -2.0, -2.0}).chosen_per_byte == 0);
  CHECK_THROWS_AS(score_question(question, {-1.0}), InternalError);
}

}  // namespace fathom::cli
