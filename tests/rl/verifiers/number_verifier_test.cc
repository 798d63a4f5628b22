#include "rl/verifiers/number_verifier.h"

#include <chrono>
#include <vector>

#include "core/error.h"
#include "tests/support/catch.h"

namespace fathom::rl {
namespace {

struct Case {
  std::string answer;
  std::string truth;
  Verdict verdict = Verdict::kCorrect;
};

void check(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    CAPTURE(c.answer.substr(0, 100), c.truth);
    CHECK(to_text(NumberVerifier(c.truth).verify(c.answer).verdict) == to_text(c.verdict));
  }
}

constexpr Verdict kWrong = Verdict::kWrong;
constexpr Verdict kFailed = Verdict::kVerifierFailed;

}  // namespace

TEST_CASE("Integers and decimals, however they are written") {
  check({{"7,425,000", "7425000"},
         {"1 000", "1000"},
         {"1000.0", "1000"},
         {R"(\$1,000.99)", "1000.99"},
         {"14{,}916", "14916"},
         {R"(11,\! 111,\! 111,\! 100)", "11111111100"},
         {"004", "4"},
         {"-5", "5", kWrong},
         {"+5", "5"},
         {"\xe2\x88\x92"
          "5",
          "-5"},
         {"\xef\xbc\x95", "5"},
         {R"($5$.)", "5"},
         {"**73**", "73"},
         {R"(\text{13})", "13"},
         {R"(90^\circ)", "90"},
         {"1e3", "1000"},
         {R"(1.5 \times 10^{-2})", "0.015"},
         {".5", "0.5"},
         {"1,23", "123", kWrong},
         {"1000,000", "1000000", kWrong},
         {"1,0000", "10000", kWrong},
         {"", "5", kWrong},
         {"five", "5", kWrong},
         {"5 6", "56", kWrong},
         {"5 apples", "5", kWrong},
         {R"(1\sqrt{19})", "1", kWrong},
         {R"(\text{E})", "5", kWrong}});
}

TEST_CASE("Integers beyond doubles are compared exactly") {
  check({{"2^{100}+1", "2^{100}", kWrong},
         {"1267650600228229401496703205376", "2^{100}"},
         {"1267650600228229401496703205377", "2^{100}", kWrong},
         {"9007199254740993", "9007199254740992", kWrong},
         {R"(\frac{1}{2^{99}})", R"(\frac{1}{2^{98}})", kWrong},
         {R"(\frac{1}{2^{99}})", "2^{-99}"},
         {"1000000.4", "1000000", kWrong}});
}

TEST_CASE("Fractions, mixed numbers and the decimals that they round to") {
  check({{R"(\frac13)", "1/3"},
         {R"(-\frac{10}{9})", "-10/9"},
         {R"(\frac{-10}{9})", "-10/9"},
         {R"(\dfrac{2}{6})", "1/3"},
         {"0.0833333333333333", R"(\frac{1}{12})"},
         {"0.0833334", R"(\frac{1}{12})", kWrong},
         {R"(\frac{1}{12})", "0.0833333333333333"},
         {"0.333", "1/3", kWrong},
         {"0.333333", "1/3"},
         {"0.666667", "2/3"},
         {"0.666666", "2/3", kWrong},
         {"0.500001", "1/2", kWrong},
         {"7 3/4", "31/4"},
         {R"(7\frac{3}{4})", "31/4"},
         {"-7 3/4", "-31/4"},
         {"7 5/4", "33/4", kWrong},
         {"7 06/08", "31/4"},  // leading zeros make nothing octal, and 08 is a number
         {"7 0010/11", "87/11"},
         {"0.5", R"(\frac{1}{2})"},
         {"(1)/(2)", "0.5"},
         {"1/0", "0", kWrong},
         {R"(\frac{1}{0})", "0", kWrong},
         {"0^{-1}", "0", kWrong},
         {"1 000/4", "250", kFailed},
         {"411522", "1234567/3", kWrong}});
}

TEST_CASE("Percentages equal their figure and their value") {
  check({{"28", R"(28\%)"},
         {"0.28", "28%"},
         {"28%", "28"},
         {"28%", "0.28"},
         {R"(28 \%)", "28%"},
         {"2800%", "28%", kWrong},
         {"2.8", "28%", kWrong},
         {"28", "0.28", kWrong}});
}

TEST_CASE("A solution may name its variable, a chain ends in its answer") {
  check({{"x = 11", "11"},
         {"x=5+5+1 = 7 = 11", "11"},
         {R"(x = \frac{3}{4})", "0.75"},
         {"x = 5 = 7", "5", kWrong},
         {"5 + 6", "11", kWrong},  // the question itself is no answer
         {"5 * 6", "30", kWrong},
         {"2x = 22", "11", kWrong},
         {"5 + 6 = 11", "11", kWrong},
         {"=11", "11", kWrong}});
}

TEST_CASE("An answer beyond the limits has no verdict") {
  check({{"10^{100000}", "5", kFailed},
         {"9^{9^{9}}", "5", kFailed},
         {"9^9^9", "5", kFailed},
         {"1e999999999999999999999", "5", kFailed},
         {"1e-5000", "5", kFailed},
         {std::string(5000, '9'), "5", kFailed},
         {"0." + std::string(5000, '9'), "1", kFailed},
         {"0." + std::string(5000, '0') + "1", "0", kFailed},
         {std::string(1 << 20, '9'), "5", kFailed},
         {std::string(1 << 20, '{'), "5", kFailed},
         {std::string(1 << 20, '('), "5", kFailed},
         {std::string(1 << 20, ')'), "5", kWrong},
         {std::string(1 << 20, '-'), "5", kWrong},
         {std::string(1 << 20, '\\'), "5", kWrong},
         {std::string(1 << 20, ' '), "5", kWrong},
         {"5" + std::string(1 << 20, ' '), "5"},
         {std::string(1 << 20, '0') + "5", "5", kFailed},
         {std::string("5\0", 2), "5", kWrong},
         {std::string("\0005", 2), "5", kWrong},
         {"\xff\xfe", "5", kWrong},
         {"\xef\xbc", "5", kWrong}});
}

TEST_CASE("Long answers are read in linear time") {
  const auto start = std::chrono::steady_clock::now();
  for (const std::string part : {",111", " 111", "\\frac", "{1}", "2^", "/1", "\\!", "e1",
                                 "x=", "\xe2\x88\x92", "\xef\xbc\x91", "^{\\circ}"}) {
    std::string text = "1";
    while (text.size() < 1 << 20) {
      text += part;
    }
    CHECK(NumberVerifier("5").verify(text).verdict != Verdict::kCorrect);
  }
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
}

TEST_CASE("A ground truth that is no number is refused") {
  CHECK_THROWS_AS(NumberVerifier("4\\sqrt{2}"), ConfigError);
  CHECK_THROWS_AS(NumberVerifier(""), ConfigError);
  CHECK_THROWS_AS(NumberVerifier("\\pi"), ConfigError);
  CHECK_THROWS_AS(NumberVerifier("10^{100000}"), ConfigError);
}

}  // namespace fathom::rl
