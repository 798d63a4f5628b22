#include "rl/factory.h"

#include "configs/load.h"
#include "core/error.h"
#include "core/file.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::rl {
namespace {

config::RunConfig config_of(const std::string& grpo, const std::string& data = "") {
  const test::TemporaryFolder folder;
  write_file_atomically(folder.path() / "run.textproto",
                        "grpo { " + grpo + " } data { " + data + " }");
  return config::load(folder.path() / "run.textproto");
}

TEST_CASE("A family without a difficulty has its easiest problems") {
  for (const ProblemFamily& family : problem_families()) {
    INFO(family.name);
    const config::RunConfig config =
        config_of(concat("problems { family: \"", family.name, "\" } problems { family: \"",
                         family.name, "\" difficulty: ", family.max_difficulty,
                         " } held_out { family: \"", family.name, "\" count: 3 }"));
    const std::vector<ProblemSource> sources = make_problem_sources(config);
    CHECK(sources[0].set.difficulty == family.min_difficulty);
    CHECK(sources[1].set.difficulty == family.max_difficulty);
    const HeldOutProblems held_out = make_held_out_problems(config);
    const ProblemSet easiest{std::string(family.name), family.min_difficulty, Split::kHeldOut, 0};
    REQUIRE(held_out.problems.size() == 3);
    CHECK(held_out.problems[2] == generate_problem(easiest, 2));
  }
  CHECK_THROWS_WITH(make_held_out_problems(config_of("held_out { family: \"chess\" }")),
                    Catch::Contains("there are arithmetic, countdown"));
}

TEST_CASE("The start of a document stands before the prompt of a problem outside of a chat") {
  const data::Tokenizer tokenizer = test::byte_tokenizer();
  const auto encode = [&](const std::string& data, bool is_chat) {
    return make_problem_encoder(config_of("", data), tokenizer, "{prompt}!", is_chat)(
        {.id = "1", .prompt = "a", .answer = "b", .verifier = "text"});
  };
  using Tokens = std::vector<std::int32_t>;
  CHECK(encode("", false) == Tokens{'a', '!'});
  CHECK(encode("document_start: BOS", false) == Tokens{test::kBegin, 'a', '!'});
  CHECK(encode("document_start: BOS chat { begin: \"\" user: \"\" assistant: \":\" }", true) ==
        Tokens{'a', '!', ':'});
}

}  // namespace
}  // namespace fathom::rl
