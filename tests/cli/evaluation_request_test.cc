#include "cli/evaluation_request.h"

#include "core/error.h"
#include "tests/support/catch.h"

namespace fathom::cli {
namespace {

EvaluationRequest read(const std::vector<std::string>& arguments) {
  return read_evaluation_request(arguments);
}

}  // namespace

TEST_CASE("What evaluate is asked for") {
  const EvaluationRequest request = read({"run",
                                          "--text",
                                          "a.txt",
                                          "--text",
                                          "b.jsonl",
                                          "--family",
                                          "sorting",
                                          "--count",
                                          "5",
                                          "--difficulty",
                                          "3",
                                          "--split",
                                          "held_out",
                                          "--problem_seed",
                                          "7",
                                          "--seed",
                                          "9",
                                          "--samples",
                                          "4",
                                          "--k",
                                          "1,4",
                                          "--template",
                                          "Q: {prompt}\nA: <think>\n",
                                          "--chat",
                                          "--extract",
                                          "whole",
                                          "--stop",
                                          "x",
                                          "--sequences",
                                          "3",
                                          "--set",
                                          "mesh.tensor=2"});
  CHECK(request.path == "run");
  CHECK(request.texts == std::vector<std::string>{"a.txt", "b.jsonl"});
  REQUIRE(request.family);
  CHECK(request.family->set.family == "sorting");
  CHECK(request.family->set.difficulty == 3);
  CHECK(request.family->set.split == rl::Split::kHeldOut);
  CHECK(request.family->set.seed == 7);
  CHECK(request.family->count == 5);
  CHECK(request.generation.seed == std::uint64_t{9});
  CHECK(request.generation.num_samples == 4);
  CHECK(request.generation.is_chat);
  CHECK(request.ks == std::vector<std::int64_t>{1, 4});
  CHECK(request.render("1 + 1") == "Q: 1 + 1\nA: <think>\n");
  CHECK(request.extraction == rl::ExtractionMode::kWhole);
  CHECK(request.num_sequences == 3);
  CHECK(request.overrides == std::vector<std::string>{"mesh.tensor=2"});
}

TEST_CASE("What evaluate assumes") {
  const EvaluationRequest request = read({"run", "--problems", "p.jsonl"});
  CHECK(request.has_problems());
  CHECK(request.ks == std::vector<std::int64_t>{1});
  CHECK(request.render("x{prompt}") == "x{prompt}");
  CHECK(request.extraction == rl::ExtractionMode::kLenient);
  CHECK_FALSE(request.generation.seed);
  CHECK_FALSE(request.generation.cache);
  CHECK(read({"run", "--problems", "p", "--cache", "latent"}).generation.cache ==
        model::CacheForm::kLatent);
  CHECK(read({"run", "--problems", "p", "--cache", "expanded"}).generation.cache ==
        model::CacheForm::kExpanded);
  CHECK(request.num_sequences == 0);
  CHECK_FALSE(read({"run", "--choices", "c.jsonl"}).has_problems());
}

TEST_CASE("What evaluate does not understand is refused") {
  const auto refused = [](const std::vector<std::string>& arguments, const std::string& why) {
    CHECK_THROWS_WITH(read(arguments), Catch::Contains(why));
  };
  refused({"run"}, "give something to evaluate on");
  refused({"--text", "a"}, "want one PATH");
  refused({"run", "--problems", "p", "--k", "1,,2"}, "want whole numbers with commas");
  refused({"run", "--problems", "p", "--k", "1x"}, "want whole numbers with commas");
  refused({"run", "--problems", "p", "--k", ""}, "--k");
  refused({"run", "--problems", "p", "--k", "2"}, "pass@2: want a k of 1 to 1");
  refused({"run", "--problems", "p", "--k", "0"}, "pass@0");
  refused({"run", "--problems", "p", "--template", "Q"}, "no {prompt}");
  refused({"run", "--problems", "p", "--extract", "boxed"}, "want tagged, whole or lenient");
  refused({"run", "--problems", "p", "--family", "sorting", "--count", "1"}, "give one of");
  refused({"run", "--family", "sorting"}, "--count");
}

}  // namespace fathom::cli
