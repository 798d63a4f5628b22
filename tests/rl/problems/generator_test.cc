#include "rl/problems/generator.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

#include "core/error.h"
#include "rl/verifiers/judge.h"
#include "rl/verifiers/verifier.h"
#include "tests/support/catch.h"

namespace fathom::rl {
namespace {

constexpr std::uint64_t kNumProblems = 300;

std::vector<Problem> problems_of(const ProblemSet& set, std::uint64_t count = kNumProblems) {
  std::vector<Problem> problems;
  for (std::uint64_t index = 0; index < count; ++index) {
    problems.push_back(generate_problem(set, index));
  }
  return problems;
}

// The text of a prompt between two marks.
std::string between(const std::string& text, const std::string& begin, const std::string& end) {
  const std::size_t from = text.find(begin) + begin.size();
  return text.substr(from, text.find(end, from) - from);
}

std::vector<std::int64_t> integers_in(std::string text) {
  std::replace_if(text.begin(), text.end(), [](char c) { return c < '0' || c > '9'; }, ' ');
  std::istringstream words(text);
  std::vector<std::int64_t> integers;
  for (std::int64_t integer = 0; words >> integer;) {
    integers.push_back(integer);
  }
  return integers;
}

// Of "12 - 1 - 7", from left to right; one kind of operator in a row.
std::int64_t value_of(const std::string& expression) {
  std::istringstream in(expression);
  std::int64_t value = 0;
  in >> value;
  char operation = 0;
  for (std::int64_t number = 0; in >> operation >> number;) {
    value = operation == '+'   ? value + number
            : operation == '-' ? value - number
            : operation == '*' ? value * number
                               : value / number;
  }
  return value;
}

// What makes two problems the same, read from the prompt: an independent Instance::canonical that
// knows no other rewording than the order of numbers.
std::string unordered(const std::string& prompt) {
  std::vector<std::int64_t> numbers = integers_in(prompt);
  const bool ends_with_target = prompt.find(" to make ") != std::string::npos;
  std::sort(numbers.begin(), numbers.end() - (ends_with_target ? 1 : 0));
  std::string key = prompt.find(" - ") == std::string::npos ? "" : "-";
  for (const std::int64_t number : numbers) {
    key += concat(number, ' ');
  }
  return key;
}

}  // namespace

TEST_CASE("A problem is a function of its set and index alone") {
  for (const ProblemFamily& family : problem_families()) {
    CAPTURE(family.name);
    const ProblemSet set{.family = std::string(family.name), .difficulty = family.max_difficulty};
    const Problem seventh = generate_problem(set, 7);
    CHECK(generate_problem(set, 8) != seventh);
    CHECK(generate_problem(set, 7) == seventh);
    ProblemSet other = set;
    other.seed = 1;
    CHECK(generate_problem(other, 7) != seventh);
    CHECK(seventh.id == concat(family.name, "-", family.max_difficulty, "-train-0-7"));
    CHECK(seventh.prompt.back() == '\n');
  }
}

TEST_CASE("A worked solution is judged right, and its steps are") {
  for (const ProblemFamily& family : problem_families()) {
    for (int difficulty = family.min_difficulty;
         difficulty <= std::min(family.max_difficulty, family.min_difficulty + 4); ++difficulty) {
      const ProblemSet set{.family = std::string(family.name), .difficulty = difficulty};
      for (std::uint64_t index = 0; index < 30; ++index) {
        const WorkedProblem worked = generate_worked_problem(set, index);
        CAPTURE(worked.problem.prompt, worked.thoughts);
        CHECK(worked.problem == generate_problem(set, index));
        CHECK(!worked.thoughts.empty());
        const auto verifier = make_verifier(worked.problem.verifier, worked.problem.answer);
        CHECK(judge(worked.solution(), *verifier, {}).verdict == Verdict::kCorrect);
        // "3 * 5 = 15": each step that is an equation of numbers holds.
        std::istringstream steps(worked.thoughts);
        for (std::string step; std::getline(steps, step, ',');) {
          const std::size_t equals = step.find(" = ");
          if (equals == std::string::npos || step.find('x') != std::string::npos) {
            continue;
          }
          CHECK(value_of(step.substr(0, equals)) == std::stoll(step.substr(equals + 3)));
        }
      }
    }
  }
}

TEST_CASE("Every family has training and held-out problems at every difficulty, none in both") {
  for (const ProblemFamily& family : problem_families()) {
    std::set<std::string> trained;
    std::set<std::string> held_out;
    for (int difficulty = family.min_difficulty; difficulty <= family.max_difficulty;
         difficulty += difficulty < 20 ? 1 : 11) {
      CAPTURE(family.name, difficulty);
      // Seeds differ: the sets are disjoint whatever they are drawn with.
      for (const std::uint64_t seed : {1, 2}) {
        ProblemSet set{std::string(family.name), difficulty, Split::kTrain, seed};
        for (const Problem& problem : problems_of(set, 100)) {
          trained.insert(problem.prompt);
        }
        set.split = Split::kHeldOut;
        set.seed = seed + 10;
        for (const Problem& problem : problems_of(set, 100)) {
          held_out.insert(problem.prompt);
        }
      }
    }
    std::vector<std::string> both;
    std::set_intersection(trained.begin(), trained.end(), held_out.begin(), held_out.end(),
                          std::back_inserter(both));
    CHECK(both.empty());
    CHECK(held_out.size() > 50);
  }
}

TEST_CASE("Numbers in another order do not make a held-out problem") {
  for (const std::string family : {"arithmetic", "sorting", "countdown"}) {
    CAPTURE(family);
    std::set<std::string> trained;
    ProblemSet set{.family = family, .difficulty = 2};
    for (const Problem& problem : problems_of(set, 4000)) {
      trained.insert(unordered(problem.prompt));
    }
    set.split = Split::kHeldOut;
    for (const Problem& problem : problems_of(set)) {
      CHECK(trained.count(unordered(problem.prompt)) == 0);
    }
  }
}

TEST_CASE("Arithmetic: operands of the difficulty's digits, the answer digit by digit") {
  std::map<int, int> carries;
  for (int difficulty = 1; difficulty <= 18; ++difficulty) {
    for (const Problem& problem :
         problems_of({.family = "arithmetic", .difficulty = difficulty}, 100)) {
      INFO(problem.prompt);
      std::istringstream words(problem.prompt);
      std::string a;
      std::string sign;
      std::string b;
      words >> a >> sign >> b;
      CHECK(a.size() == static_cast<std::size_t>(difficulty));
      CHECK(b.size() == static_cast<std::size_t>(difficulty));
      // On paper: from the last digit on, with what is carried or borrowed.
      std::string result;
      int carry = 0;
      int num_carries = 0;
      for (std::size_t i = a.size(); i-- > 0;) {
        const int digit =
            sign == "+" ? (a[i] - '0') + (b[i] - '0') + carry : (a[i] - '0') - (b[i] - '0') - carry;
        carry = digit > 9 || digit < 0 ? 1 : 0;
        num_carries += carry;
        result += static_cast<char>('0' + (digit + 10) % 10);
      }
      if (carry == 1) {
        REQUIRE(sign == "+");
        result += '1';
      }
      while (result.size() > 1 && result.back() == '0') {
        result.pop_back();
      }
      std::reverse(result.begin(), result.end());
      CHECK(problem.answer == result);
      CHECK(2 * num_carries >= difficulty);
      carries[difficulty] += num_carries;
    }
    CHECK((difficulty == 1 || carries[difficulty] >= carries[difficulty - 1]));
  }
}

TEST_CASE("Sorting: as many digits as the difficulty, in ascending order") {
  for (const int difficulty : {2, 3, 8, 64}) {
    for (const Problem& problem : problems_of({.family = "sorting", .difficulty = difficulty})) {
      std::vector<std::int64_t> digits = integers_in(problem.prompt);
      CHECK(digits.size() == static_cast<std::size_t>(difficulty));
      const std::vector<std::int64_t> sorted = integers_in(problem.answer);
      CHECK(std::is_sorted(sorted.begin(), sorted.end()));
      CHECK(std::is_permutation(digits.begin(), digits.end(), sorted.begin(), sorted.end()));
    }
  }
}

TEST_CASE("Linear equations: the answer fits and is reduced") {
  // slope and offset of "-3x + 4", "x", "7"
  const auto side = [](const std::string& text) {
    const std::size_t x = text.find('x');
    if (x == std::string::npos) {
      return std::pair{0L, std::stol(text)};
    }
    const std::string slope = text.substr(0, x);
    std::string offset = text.substr(x + 1);
    offset.erase(std::remove(offset.begin(), offset.end(), ' '), offset.end());
    return std::pair{slope.empty()  ? 1L
                     : slope == "-" ? -1L
                                    : std::stol(slope),
                     offset.empty() ? 0L : std::stol(offset)};
  };
  for (int difficulty = 1; difficulty <= 3; ++difficulty) {
    for (const Problem& problem :
         problems_of({.family = "linear_equation", .difficulty = difficulty})) {
      INFO(problem.prompt << problem.answer);
      const auto [a, b] = side(between(problem.prompt, "Solve ", " = "));
      const auto [c, d] = side(between(problem.prompt, " = ", " for x.\n"));
      const std::size_t slash = problem.answer.find('/');
      const long p = std::stol(problem.answer);
      const long q = slash == std::string::npos ? 1 : std::stol(problem.answer.substr(slash + 1));
      CHECK(a * p + b * q == c * p + d * q);
      CHECK(a != c);
      CHECK((c == 0) == (difficulty == 1));
      CHECK((q > 1) == (difficulty == 3));
      CHECK(std::gcd(p, q) == 1);
    }
  }
}

TEST_CASE("Refusals name the family, the bounds and what there is") {
  const auto refusal = [](const ProblemSet& set) {
    try {
      generate_problem(set, 0);
    } catch (const ConfigError& error) {
      return error.message();
    }
    return std::string("none");
  };
  CHECK(refusal({.family = "sums"}) ==
        "no family of problems \"sums\"; there are arithmetic, countdown, sorting, "
        "linear_equation, knights_and_knaves");
  CHECK(refusal({.family = "countdown", .difficulty = 7}) ==
        "problems of family countdown: difficulty 7 (numbers to combine), want 2 to 6");
  CHECK(refusal({.family = "sorting", .difficulty = 1}).find("want 2 to 64") != std::string::npos);
}

}  // namespace fathom::rl
