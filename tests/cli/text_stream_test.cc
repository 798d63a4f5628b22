#include "cli/text_stream.h"

#include "cli/prompt_file.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"

namespace fathom::cli {
namespace {

data::Tokenizer tokenizer() {
  return data::Tokenizer::load(test::source_path("tests/fixtures/tokenizer/llama3.json"));
}

}  // namespace

TEST_CASE("A completion is shown as it grows, by what it is at that moment") {
  const data::Tokenizer words = tokenizer();
  const trainer::CompletionEnd end =
      trainer::make_completion_end(words, {"\n\nQ:", "</answer>", "é!"}, {"<|end|>", -1});
  for (const std::string text : {"the water wheel", "one\n\nQ: two", "\n\n\n\nQ:",
                                 "x</answ</answer>y", "caf\xc3\xa9 \xe6\xb0\xb4\xf0\x9f\x8c\x8a",
                                 "\xc3\xa9\xc3\xa9!", "</answer>", "ok<|end|>\n"}) {
    INFO(text);
    const std::vector<std::int32_t> tokens = words.encode(text);
    TextStream stream(words, end);
    trainer::Completion completion;
    std::string shown;
    for (const std::int32_t token : tokens) {
      completion.tokens.push_back(token);
      const std::string whole = trainer::completion_text(words, completion, end).shown;
      const bool is_stopped = whole.size() < words.decode(completion.tokens).size();
      const bool is_finished = is_stopped || completion.tokens.size() == tokens.size();
      shown += stream.next(completion, is_finished);
      if (is_finished) {
        CHECK(shown == whole);
        break;
      }
      CHECK(shown == whole_characters(std::string_view(whole).substr(
                         0, whole.size() - end.strings.num_undecided(whole))));
    }
  }
}

TEST_CASE("The token that ends a completion is not shown") {
  const data::Tokenizer words = tokenizer();
  const std::int32_t end_of_answer = words.encode("!").front();
  const trainer::CompletionEnd end = trainer::make_completion_end(words, {}, {"", end_of_answer});
  for (const std::int32_t token : {words.special_tokens().eos, end_of_answer}) {
    TextStream stream(words, end);
    trainer::Completion completion;
    completion.tokens = words.encode("end");
    CHECK(stream.next(completion, false) == "end");
    completion.tokens.push_back(token);
    CHECK(stream.next(completion, true).empty());
  }
}

}  // namespace fathom::cli
