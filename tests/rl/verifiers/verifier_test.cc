#include "rl/verifiers/verifier.h"

#include <ctime>
#include <vector>

#include "core/error.h"
#include "rl/problems/generator.h"
#include "tests/support/catch.h"

namespace fathom::rl {
namespace {

std::string verdict(const std::string& verifier, const std::string& truth,
                    const std::string& answer) {
  return std::string(to_text(make_verifier(verifier, truth)->verify(answer).verdict));
}

}  // namespace

TEST_CASE("Every built-in problem's answer is correct, and another problem's is not") {
  for (const ProblemFamily& family : problem_families()) {
    int num_wrong = 0;
    for (std::uint64_t index = 0; index < 100; ++index) {
      const ProblemSet set{.family = std::string(family.name),
                           .difficulty = std::min(3, family.max_difficulty)};
      const Problem problem = generate_problem(set, index);
      INFO(problem.prompt << problem.answer);
      const auto verifier = make_verifier(problem.verifier, problem.answer);
      CHECK(verifier->verify(problem.answer).verdict == Verdict::kCorrect);
      const Problem other = generate_problem(set, index + 1000);
      num_wrong += verifier->verify(other.answer).verdict == Verdict::kWrong ? 1 : 0;
    }
    CHECK(num_wrong > 50);
  }
}

TEST_CASE("Integers in order, whatever parts them") {
  for (const std::string answer :
       {"1 2 10", "1,2,10", "[1, 2, 10]", "(1; 2; 10)", " 01 +2\n10. "}) {
    CHECK(verdict("integers", "1 2 10", answer) == "correct");
  }
  for (const std::string answer : {"1 10 2", "1 2", "1 2 10 10", "1210", "", "1 2 ten", "1 2 -10",
                                   "1,,2,10", "[1 2 10", "1 2 10 x", "1 2 1 0"}) {
    CAPTURE(answer);
    CHECK(verdict("integers", "1 2 10", answer) == "wrong");
  }
  CHECK(verdict("integers", "-3 0", "-3 -0") == "correct");
  CHECK(verdict("integers", "3 -1", "3-1") == "wrong");  // a difference
  CHECK(verdict("integers", "99999999999999999999", "99999999999999999998") == "wrong");
  CHECK_THROWS_AS(make_verifier("integers", "one two"), ConfigError);
  CHECK_THROWS_AS(make_verifier("integers", ""), ConfigError);
}

TEST_CASE("Countdown: exact value, each number exactly once") {
  const std::string truth = "(3 + 5) * 7";
  for (const std::string answer :
       {"(3+5)*7", "7 * (5 + 3)", "7*5+7*3-7*(3-3)+0", R"((3+5) \times 7)", "(3 + 5) * 7 = 56",
        "((3)+(5))*(7)", "3*7+5*7"}) {
    CAPTURE(answer);
    const bool uses_each_once = answer.find('0') == std::string::npos && answer != "3*7+5*7";
    CHECK(verdict("countdown", truth, answer) == (uses_each_once ? "correct" : "wrong"));
  }
  for (const std::string answer :
       {"56",       "3 + 5 * 7", "(3+5)*7=57", "(3+5)*7=", "(3+5)7",
        "3 + 5",    "(3+5)*7*1", "(3+5)**7",   "(3+5)^7",  "-(3+5)*-7",
        "(3+5)*7)", "((3+5)*7",  "()",         "",         "(3+5)*7 abc",
        "35*7",     "+",         "3 5 7",      "7/(3+5)",  "(3+5)*(7)=(56"}) {
    CAPTURE(answer);
    CHECK(verdict("countdown", truth, answer) == "wrong");
  }
  // Exact on the way, too: 8 / (3 - 8 / 3) = 24 goes through thirds.
  CHECK(verdict("countdown", "3 * 8 * 3 / 3 * 8 / 8", "8/(3-8/3)*3/3*8/8") == "wrong");
  CHECK(verdict("countdown:3,3,8,8", "3 * 8", "8/(3-8/3)") == "correct");
  CHECK(verdict("countdown", "8 / 4 * 3 - 3", "3 / (3 - 8 / 4)") == "correct");
  CHECK(verdict("countdown", "6 * 1", "6") == "wrong");  // the 1 is left out
  CHECK(verdict("countdown", "3 - 2 - 1", "1 / (3 - 2 - 1)") == "wrong");
  CHECK(verdict("countdown", "3 * 2 + 1", "1 / (3 - 2 - 1)") == "wrong");
}

TEST_CASE("Countdown with a list: each number at most once") {
  CHECK(verdict("countdown:3,5,7", "3 + 5", "5 + 3") == "correct");
  CHECK(verdict("countdown:3,5,7", "3 + 5", "3 + 5 + 7 - 7") == "wrong");
  CHECK(verdict("countdown:3,5,7,8", "3 + 5", "8") == "correct");
  CHECK(verdict("countdown:3,5,7", "3 + 5", "8") == "wrong");
  CHECK(verdict("countdown:3,3,5", "3 + 3", "3+3") == "correct");
  CHECK(verdict("countdown:3,5", "3 + 5", "3+3+5-3") == "wrong");
  CHECK_THROWS_AS(make_verifier("countdown:3,x", "3"), ConfigError);
  CHECK_THROWS_AS(make_verifier("countdown:", "3"), ConfigError);
  CHECK_THROWS_AS(make_verifier("countdown:3,5", "3 + 7"), ConfigError);
  CHECK_THROWS_AS(make_verifier("countdown", "3 +"), ConfigError);
  CHECK_THROWS_AS(make_verifier("countdown", "1 / (2 - 2)"), ConfigError);
}

TEST_CASE("Knights and knaves: everybody, once, in any order") {
  const std::string truth = "Alice knight, Bob knave";
  for (const std::string answer :
       {"Alice knight, Bob knave", "Bob is a knave and Alice is a knight.",
        "BOB: knave; ALICE: knight", "- Alice: knight\n- Bob: knave"}) {
    CHECK(verdict("knights_and_knaves", truth, answer) == "correct");
  }
  for (const std::string answer :
       {"Alice knave, Bob knave", "Alice knight", "Alice knight, Bob knave, Carol knave", "",
        "Alice knight, Bob knave, Bob knight", "Bob is not a knight, Alice knight", "knight knave",
        "Alice Bob knave", "Carol Alice knight, Bob knave", "Alice knight, Bob knave, Alice",
        "Alice knight (Bob knave)"}) {
    CAPTURE(answer);
    CHECK(verdict("knights_and_knaves", truth, answer) == "wrong");
  }
  CHECK(verdict("knights_and_knaves", "A knight, B knave", "A is a knight, B is a knave") ==
        "correct");
  CHECK_THROWS_AS(make_verifier("knights_and_knaves", "Alice"), ConfigError);
  CHECK_THROWS_AS(make_verifier("knights_and_knaves", ""), ConfigError);
}

TEST_CASE("Text is compared word by word") {
  CHECK(verdict("text", "to  be\nor", " to be or ") == "correct");
  CHECK(verdict("text", "to be", "tobe") == "wrong");
  CHECK(verdict("text", "to be", "To be") == "wrong");
  CHECK(verdict("text", "", "") == "correct");
}

TEST_CASE("Unknown verifiers are refused with those that there are") {
  CHECK_THROWS_WITH(make_verifier("nummer", "5"), Catch::Contains("no verifier \"nummer\"") &&
                                                      Catch::Contains("countdown:NUMBERS"));
}

TEST_CASE("Hostile answers of a megabyte are wrong at once") {
  const std::vector<std::pair<std::string, std::string>> verifiers{
      {"number", "5"},        {"number", "(1, 2)"},       {"integers", "1 2"},
      {"countdown", "3 + 5"}, {"countdown:3,5", "3 + 5"}, {"knights_and_knaves", "A knight"},
      {"text", "x"}};
  const std::clock_t start = std::clock();  // of this process: others may keep the cores busy
  for (const std::string part :
       {"9",           "(",       ")",       "{",       "1+",   "3*(",        "+",
        "-",           " ",       "a",       "knight ", ",",    "1 ",         "\\",
        "\\frac",      "9^",      "\xff",    "=",       "**",   "\\sqrt{",    "\\frac{3^{32768}}",
        "{3^{32768}}", "1e4096*", "x=1=",    "3*5/",    "(3)+", "Ab knight ", "A knight B",
        "1\n",         "\\!",     "\\text{", "cm "}) {
    std::string text;
    while (text.size() < 1 << 20) {
      text += part;
    }
    text += std::string("\0", 1);
    for (const auto& [name, truth] : verifiers) {
      CHECK(verdict(name, truth, text) == "wrong");
    }
  }
  const std::string parentheses = std::string(1 << 19, '(') + "3 + 5" + std::string(1 << 19, ')');
  CHECK(verdict("countdown", "3 + 5", parentheses) == "wrong");
  CHECK(verdict("countdown", "3 + 5", "((3) + (5)) = ((8))") == "correct");
  CHECK(std::clock() - start < 20 * CLOCKS_PER_SEC);
}

}  // namespace fathom::rl
