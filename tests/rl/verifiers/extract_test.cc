#include "rl/verifiers/extract.h"

#include <chrono>

#include "tests/support/catch.h"

namespace fathom::rl {
namespace {

std::string answer_in(const std::string& completion, ExtractionOptions options = {}) {
  const std::optional<Extraction> found = extract_answer(completion, options);
  return found ? found->answer : "(none)";
}

struct Case {
  std::string completion;
  std::string answer;
};

void check(const std::vector<Case>& cases, ExtractionOptions options = {}) {
  for (const Case& c : cases) {
    CAPTURE(c.completion);
    CHECK(answer_in(c.completion, options) == c.answer);
  }
}

}  // namespace

TEST_CASE("The last box counts, with its own braces") {
  check({{R"(so \boxed{5})", "5"},
         {R"(\boxed{1} no no no \boxed{2})", "2"},
         {R"(\boxed{\frac{1}{2}} is it)", R"(\frac{1}{2})"},
         {R"(\boxed{ \{1, 2\} })", R"(\{1, 2\})"},
         {R"(\boxed{a\}b})", R"(a\}b)"},
         {R"($\boxed 5$ and so on)", "5"},
         {R"(\boxed5)", "5"},
         {R"(\fbox{5})", "5"},
         {R"(\boxed{})", ""},
         {R"(\boxed)", ""},
         {R"(\boxed{840} \boxed{840})", "840"},
         {"5", "(none)"},
         {"", "(none)"}});
}

TEST_CASE("A box that was cut off is no answer, nor is the one before it") {
  check({{R"(\boxed{5)", "(none)"},
         {R"(\boxed{\frac{1}{2})", "(none)"},
         {R"(\boxed{3} rather \boxed{5)", "(none)"},
         {R"(\boxed{5\})", "(none)"}});
  check({{R"(Answer: 3, \boxed{5)", "(none)"}}, {.mode = ExtractionMode::kLenient});
}

TEST_CASE("Boxes joined by and, or, a comma are one list") {
  check({{R"(\boxed{1},\boxed{2})", "1, 2"},
         {R"($\boxed{1}$ and $\boxed{2}$)", "1, 2"},
         {R"(\boxed{1}, \boxed{2}, or \boxed{3})", "1, 2, 3"},
         {R"(\boxed{0} then \boxed{1} or \boxed{2})", "1, 2"},
         {R"(\boxed{1} and then \boxed{2})", "2"}});
}

TEST_CASE("The last well-formed answer pair counts, and within it a box") {
  check({{"<answer>5</answer>", "5"},
         {"<answer>\n 1+2+3 = 6\n</answer>\n", "1+2+3 = 6"},
         {"<answer>1</answer> or <answer>2</answer>", "2"},
         {"<answer>1</answer> or <answer>2", "1"},
         {"<answer>1</answer></answer>", "1"},
         {"<answer><answer>7</answer>", "7"},
         {"</answer>7<answer>", "(none)"},
         {R"(<answer>it is \boxed{4}.</answer> \boxed{9})", "4"},
         {R"(\boxed{9} <answer>4</answer>)", "4"}});
  CHECK(extract_answer(R"(<answer>\boxed{4}</answer>)")->rule == "answer tag, box");
}

TEST_CASE("Only what follows the thoughts counts, however far from the end") {
  check({{R"(<think>\boxed{1}</think>\boxed{2})", "2"},
         {R"(<think>\boxed{1}</think>)", "(none)"},
         {R"(<think>\boxed{1})", "(none)"},
         {R"(</think>\boxed{1}</think>\boxed{2})", "2"},
         {R"(<think></think>\boxed{2}<think>)", "(none)"},
         {R"(\boxed{2})" + std::string(5000, '.'), "2"}});
  const ExtractionOptions open{.thinking_is_open = true};
  check({{R"(\boxed{1})", "(none)"}, {R"(hm \boxed{1}</think>\boxed{2})", "2"}}, open);
}

TEST_CASE("Whole completions and lenient answers are modes of their own") {
  check({{" 1 2 3\n", "1 2 3"}, {"<think>4</think> 5", "5"}, {"", ""}},
        {.mode = ExtractionMode::kWhole});
  check({{"**Answer:** 5\nbye", "5"},
         {"Answer: **5**", "5**"},  // normalize() takes the rest off
         {"so\n#### 1,234.", "1,234."},
         {"####18", "18"},
         {"it is 3/4.", "3/4"},
         {"from 12 to -7, surely", "-7"},
         {R"(Answer: 4, \boxed{5})", "5"},
         {"none at all", "(none)"}},
        {.mode = ExtractionMode::kLenient});
  check({{"Answer: 5", "(none)"}, {"#### 5", "(none)"}});
}

TEST_CASE("A megabyte of anything takes no time to look through") {
  const auto repeated = [](const std::string& part) {
    std::string text;
    while (text.size() < 1 << 20) {
      text += part;
    }
    return text;
  };
  const auto start = std::chrono::steady_clock::now();
  for (const std::string part :
       {R"(\boxed{)", R"(\boxed{}, )", R"(\boxed)", "{", "}", "\\", "<answer>", "</answer>",
        "<answer>1</answer>", "<think>", "</think>", "<", "9", R"(\boxed{1} and )", "Answer:"}) {
    const std::string text = repeated(part);
    for (const ExtractionMode mode :
         {ExtractionMode::kTagged, ExtractionMode::kWhole, ExtractionMode::kLenient}) {
      extract_answer(text, {.mode = mode});
    }
  }
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
  CHECK(answer_in(std::string("\0<answer>\0</answer>", 19)) == std::string("\0", 1));
}

}  // namespace fathom::rl
