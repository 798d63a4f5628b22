#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"
#include "trainer/generation/text.h"

namespace fathom::trainer {
namespace {

TEST_CASE("Stop strings cut where the first of them begins") {
  const StopStrings stop({"</a>", "\n\n"});
  CHECK(stop.find("one\n\ntwo</a>") == 3);
  CHECK(stop.find("one</a>\n\n") == 3);
  CHECK(stop.find("one\ntwo</a") == 10);
  CHECK(StopStrings().find("text") == 4);
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
  const StopStrings stop({"water wheel", "\n\n"});
  const auto is_stop = stop.condition(tokenizer);
  CHECK(!StopStrings().condition(tokenizer));
  for (const std::string text : {"the water wheels turn", "a\n\nb", "the water\nwheel"}) {
    const std::vector<std::int32_t> tokens = tokenizer.encode(text);
    std::size_t end = 1;  // tokens up to the first stop
    while (end < tokens.size() && !is_stop(std::span(tokens).first(end))) {
      ++end;
    }
    std::size_t want = 1;
    while (want < tokens.size() && stop.find(tokenizer.decode(std::span(tokens).first(want))) ==
                                       tokenizer.decode(std::span(tokens).first(want)).size()) {
      ++want;
    }
    CHECK(end == want);
    const Completion completion{{tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(end)},
                                {},
                                FinishReason::kStop};
    CHECK(completion_text(tokenizer, completion, stop) == text.substr(0, stop.find(text)));
  }
}

}  // namespace
}  // namespace fathom::trainer
