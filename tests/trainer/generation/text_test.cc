#include "trainer/generation/text.h"

#include "core/error.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"

namespace fathom::trainer {
namespace {

TEST_CASE("Stop strings cut where the first of them begins") {
  const StopStrings stop({"</a>", "\n\n"});
  CHECK(stop.find("one\n\ntwo</a>") == StopStrings::Place{3, 5});
  CHECK(stop.find("one</a>\n\n") == StopStrings::Place{3, 7});
  CHECK(stop.find("one\ntwo</a") == StopStrings::Place{10, 10});
  CHECK(StopStrings().find("text") == StopStrings::Place{4, 4});
  // Of those that begin at one place the one that is there first.
  CHECK(StopStrings({"<a>", "<a", "<a>b"}).find("x<a>b") == StopStrings::Place{1, 3});
  CHECK_THROWS_AS(StopStrings({"x", ""}), ConfigError);
}

TEST_CASE("What may become a stop string is undecided") {
  const StopStrings stop({"</a>", "<b"});
  CHECK(stop.num_undecided("x</a") == 3);
  CHECK(stop.num_undecided("x<") == 1);
  CHECK(stop.num_undecided("x</b") == 0);
  CHECK(stop.num_undecided("") == 0);
}

TEST_CASE("A condition ends a completion with the token that completes a stop string") {
  const auto tokenizer =
      data::Tokenizer::load(test::source_path("tests/fixtures/tokenizer/llama3.json"));
  const std::vector<std::string> stops{"water wheel", "\n\n"};
  const StopStrings stop(stops);
  const auto is_stop = stop.condition(tokenizer);
  CHECK(!StopStrings().condition(tokenizer));
  for (const std::string text : {"the water wheels turn", "a\n\nb", "the water\nwheel"}) {
    const std::vector<std::int32_t> tokens = tokenizer.encode(text);
    std::size_t end = 1;  // tokens up to the first stop
    while (end < tokens.size() && !is_stop(std::span(tokens).first(end))) {
      ++end;
    }
    std::size_t want = 1;
    while (want < tokens.size() &&
           stop.find(tokenizer.decode(std::span(tokens).first(want))).begin ==
               tokenizer.decode(std::span(tokens).first(want)).size()) {
      ++want;
    }
    CHECK(end == want);
    const Completion completion{{tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(end)},
                                {},
                                FinishReason::kStop};
    const auto [begin, stop_end] = stop.find(text);
    CHECK(completion_text(tokenizer, completion, make_completion_end(tokenizer, stops)) ==
          CompletionText{text.substr(0, begin), text.substr(begin, stop_end - begin)});
  }
}

// A completion of bytes and tokens.
Completion completion_of(const data::Tokenizer& tokenizer, const std::string& text) {
  return {tokenizer.encode(text), {}, FinishReason::kStop};
}

TEST_CASE("A text comes without the token that ended it, and with the string that did beside it") {
  const data::Tokenizer tokenizer = test::byte_tokenizer();
  const auto text_of = [&](const CompletionEnd& end, const std::string& text) {
    return completion_text(tokenizer, completion_of(tokenizer, text), end);
  };
  const CompletionEnd plain = make_completion_end(tokenizer);
  CHECK(plain.tokens == std::vector<std::int32_t>{test::kEnd});
  CHECK(text_of(plain, "17<|end_of_sentence|>") == CompletionText{"17", ""});
  CHECK(text_of(plain, "17<|pad|>") == CompletionText{"17<|pad|>", ""});
  const CompletionEnd tag = make_completion_end(tokenizer, {"</answer>"});
  CHECK(text_of(tag, "<answer>17</answer>") == CompletionText{"<answer>17", "</answer>"});
  CHECK(text_of(tag, "<answer>17</answer>").whole() == "<answer>17</answer>");
  CHECK(text_of(tag, "17<|end_of_sentence|>") == CompletionText{"17", ""});
  // What the last token has behind the string is cut off.
  CHECK(text_of(tag, "17</answer>\n") == CompletionText{"17", "</answer>"});
  CHECK_THROWS_AS(make_completion_end(tokenizer, {""}), ConfigError);
}

TEST_CASE("The end of a chat template's answers is no part of their text") {
  const data::Tokenizer tokenizer = test::byte_tokenizer();
  const auto text_of = [&](const CompletionEnd& end, const std::string& text) {
    return completion_text(tokenizer, completion_of(tokenizer, text), end);
  };
  const CompletionEnd token = make_completion_end(tokenizer, {"!"}, {"", test::kPad});
  CHECK(token.tokens == std::vector<std::int32_t>{test::kEnd, test::kPad});
  CHECK(text_of(token, "ok<|pad|>") == CompletionText{"ok", ""});
  CHECK(text_of(token, "ok<|end_of_sentence|>") == CompletionText{"ok", ""});
  CHECK(text_of(token, "ok!") == CompletionText{"ok", "!"});
  const CompletionEnd same = make_completion_end(tokenizer, {}, {"", test::kEnd});
  CHECK(same.tokens == std::vector<std::int32_t>{test::kEnd});

  const CompletionEnd text = make_completion_end(tokenizer, {"!"}, {"\n</s>", -1});
  CHECK(text.tokens == std::vector<std::int32_t>{test::kEnd});
  CHECK(text_of(text, "ok\n</s>") == CompletionText{"ok", ""});
  CHECK(text_of(text, "ok!") == CompletionText{"ok", "!"});
  CHECK(text_of(text, "ok</s>") == CompletionText{"ok</s>", ""});
  // A string that was asked for and is, or begins before, the template's end.
  CHECK(text_of(make_completion_end(tokenizer, {"\n</s>"}, {"\n</s>", -1}), "ok\n</s>") ==
        CompletionText{"ok", ""});
  CHECK(text_of(make_completion_end(tokenizer, {".\n"}, {"\n</s>", -1}), "ok.\n</s>") ==
        CompletionText{"ok", "."});
  // All of it ends a completion.
  GenerationOptions options;
  set_vocabulary(tokenizer, text, options);
  CHECK(options.num_allowed == tokenizer.vocab_size());
  CHECK(options.end_tokens == text.tokens);
  CHECK(options.is_stop(tokenizer.encode("ok\n</s>")));
  CHECK(options.is_stop(tokenizer.encode("ok!")));
  CHECK_FALSE(options.is_stop(tokenizer.encode("ok\n</s")));
}

}  // namespace
}  // namespace fathom::trainer
