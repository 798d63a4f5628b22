#include <algorithm>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "rl/problems/generator.h"
#include "tests/support/catch.h"

namespace fathom::rl {
namespace {

// All positive integers that come from all of `numbers` by positive integer steps.
std::set<long> reachable(const std::vector<long>& numbers) {
  if (numbers.size() == 1) {
    return {numbers.front()};
  }
  std::set<long> values;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    for (std::size_t j = 0; j < numbers.size(); ++j) {
      if (i == j) {
        continue;
      }
      std::vector<long> rest;
      for (std::size_t k = 0; k < numbers.size(); ++k) {
        if (k != i && k != j) {
          rest.push_back(numbers[k]);
        }
      }
      const long a = numbers[i];
      const long b = numbers[j];
      std::vector<long> results{a + b, a * b};
      if (a > b) {
        results.push_back(a - b);
      }
      if (a % b == 0) {
        results.push_back(a / b);
      }
      for (const long result : results) {
        rest.push_back(result);
        values.merge(reachable(rest));
        rest.pop_back();
      }
    }
  }
  return values;
}

// A calculator by recursive descent, in double: the values are small.
class Calculator {
 public:
  explicit Calculator(const std::string& text) : text_(text) {
    text_.erase(std::remove(text_.begin(), text_.end(), ' '), text_.end());
  }
  double value() {
    const double result = sum();
    REQUIRE(at_ == text_.size());
    return result;
  }

 private:
  bool takes(char c) {
    const bool is_there = at_ < text_.size() && text_[at_] == c;
    at_ += is_there ? 1 : 0;
    return is_there;
  }
  double sum() {
    double result = product();
    while (true) {
      if (takes('+')) {
        result += product();
      } else if (takes('-')) {
        result -= product();
      } else {
        return result;
      }
    }
  }
  double product() {
    double result = atom();
    while (true) {
      if (takes('*')) {
        result *= atom();
      } else if (takes('/')) {
        result /= atom();
      } else {
        return result;
      }
    }
  }
  double atom() {
    if (takes('(')) {
      const double result = sum();
      REQUIRE(takes(')'));
      return result;
    }
    std::size_t length = 0;
    const double result = std::stod(text_.substr(at_), &length);
    at_ += length;
    return result;
  }

  std::string text_;
  std::size_t at_ = 0;
};

std::vector<long> integers_in(std::string text) {
  std::replace_if(text.begin(), text.end(), [](char c) { return c < '0' || c > '9'; }, ' ');
  std::istringstream words(text);
  std::vector<long> integers;
  for (long integer = 0; words >> integer;) {
    integers.push_back(integer);
  }
  return integers;
}

}  // namespace

TEST_CASE("Countdown: the target can be reached, and the answer reaches it with each number once") {
  for (int difficulty = 2; difficulty <= 6; ++difficulty) {
    for (std::uint64_t index = 0; index < 60; ++index) {
      const Problem problem =
          generate_problem({.family = "countdown", .difficulty = difficulty}, index);
      INFO(problem.prompt << problem.answer);
      std::vector<long> numbers = integers_in(problem.prompt);
      const long target = numbers.back();
      numbers.pop_back();
      CHECK(numbers.size() == static_cast<std::size_t>(difficulty));
      std::vector<long> used = integers_in(problem.answer);
      CHECK(std::is_permutation(used.begin(), used.end(), numbers.begin(), numbers.end()));
      CHECK(Calculator(problem.answer).value() == static_cast<double>(target));
      CHECK((target >= 1 && target <= 999));
      if (difficulty <= 4) {
        CHECK(reachable(numbers).count(target) == 1);
      }
    }
  }
}

}  // namespace fathom::rl
