#include "rl/verifiers/number_verifier.h"

#include <chrono>
#include <vector>

#include "core/error.h"
#include "rl/verifiers/judge.h"
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

std::string reason_for(std::string_view answer) {
  return NumberVerifier("5").verify(answer).reason;
}

// A quotient of quotients, a power of at least 52 thousand bits at each end.
std::string tower_of_fractions(int depth, int& base) {
  if (depth == 0) {
    return concat(base++ % 2 == 0 ? 3 : 7, "^{16384}");
  }
  std::string text = "\\frac{";
  text += tower_of_fractions(depth - 1, base);
  text += "}{";
  text += tower_of_fractions(depth - 1, base);
  return text + "}";
}

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

TEST_CASE("What stands around a number or between two never makes another number of them") {
  check({{R"(\(5\))", "5"},
         {"$5$$6$", "56", kWrong},
         {R"(\(5\)\(6\))", "56", kWrong},
         {R"(5^\circ6)", "56", kWrong},
         {"5\xc2\xb0"
          "6",
          "56", kWrong},
         {R"(5\degree6)", "56", kWrong},
         {R"(\left(5\right))", "5"},
         {R"(\left( \dfrac{1}{2} \right))", "1/2"},
         {R"(\tfrac{1}{2})", "1/2"},
         {"(1,234)", "1234", kWrong},  // perhaps a pair
         {R"(\left(1,234\right))", "1234", kWrong},
         {R"(\{1,234\})", "1234", kWrong},
         {"[1,234]", "1234", kWrong},
         {R"(\text{1,234})", "1234"},
         {"1, 234", "1234", kWrong},
         {"5(6)", "30", kWrong},
         {"5{6}", "56", kWrong},
         {"204_7", "204", kWrong},
         {R"(\pm 5)", "5", kWrong},
         {"5!", "5", kWrong}});
}

TEST_CASE("Boxes that are a list are no number") {
  const auto verdict = [](std::string_view completion, std::string_view truth) {
    return to_text(judge(completion, NumberVerifier(truth), {}).verdict);
  };
  CHECK(verdict(R"(\boxed{1,234})", "1234") == "correct");
  CHECK(verdict(R"(\boxed{1}, \boxed{234})", "1234") == "wrong");
  CHECK(verdict(R"($\boxed{1}$,$\boxed{234}$)", "1234") == "wrong");
  CHECK(verdict(R"(\boxed{1} and \boxed{\!234})", "1234") == "wrong");
  CHECK(verdict(R"(\boxed{x = 99} or \boxed{x = 3})", "3") == "wrong");
  CHECK(verdict(R"(\boxed{} or \boxed{3})", "3") == "wrong");
}

TEST_CASE("A unit may stand behind the number") {
  check({{"5 cm", "5"},
         {"5cm", "5"},
         {R"(5\text{ cm})", "5"},
         {R"(5\,\mathrm{cm}^2)", "5"},
         {R"(5~\text{cm}^{3}.)", "5"},
         {"5 square meters", "5"},
         {"5 meters", "5"},
         {R"(5 \text{ m})", "5"},
         {R"(\frac{5}{2} \text{ km/h})", "5/2"},
         {"9.8 m/s^2", "9.8"},
         {"60 miles per hour", "60"},
         {"30 degrees", "30"},
         {R"(\$5)", "5"},
         {"5 dollars", "5"},
         {"1,234 kg", "1234"},
         {"x = 5 cm", "5"},
         {"28 percent", "28%"},
         {R"(28\text{ percent})", "28%"},
         {"6 cm", "5", kWrong},
         {"5 m", "5", kWrong},  // or 5 times m
         {"5m", "5", kWrong},
         {"5x", "5", kWrong},
         {R"(5\text{x})", "5", kWrong},
         {"5 or 6", "5", kWrong},
         {"5 cm or 6 cm", "5", kWrong},
         {"5 cm, 6 cm", "5", kWrong},
         {"5 cm 6", "5", kWrong},
         {"5 cm 6 cm", "5", kWrong},
         {"5 cm/", "5", kWrong},
         {"5 per hour", "5", kWrong},
         {"5 square", "5", kWrong},
         {"cm", "5", kWrong},
         {"5 % cm", "5", kWrong},
         {"5{}", "5", kWrong},
         {"5}", "5", kWrong},
         {concat("5 ", std::string(1 << 20, '{'), "cm"), "5", kWrong}});
}

TEST_CASE("Points and intervals are equal when brackets and numbers are") {
  check({{"(1, 2)", "(1,2)"},
         {R"(\left(1,\, 2\right))", "(1,2)"},
         {R"((\frac{1}{2}, 0.25))", "(1/2, 1/4)"},
         {"(0.333333, 28)", "(1/3, 28%)"},
         {"[0, 9)", "[0,9)"},
         {"(1,234)", "(1, 234)"},
         {"(1, 2, 3)", "(1, 2, 3)"},
         {"(5 cm, 2)", "(5, 2)"},
         {"(1, -2)", "(1, 2)", kWrong},
         {"(3, 2)", "(1, 2)", kWrong},
         {"(2, 1)", "(1, 2)", kWrong},
         {"[0, 9]", "[0,9)", kWrong},
         {"(0, 9)", "[0,9)", kWrong},
         {"(1, 2", "(1, 2)", kWrong},
         {"1, 2", "(1, 2)", kWrong},
         {"(1, 2, 3)", "(1, 2)", kWrong},
         {"(1)", "(1, 2)", kWrong},
         {"1", "(1, 2)", kWrong},
         {"(1, 2)", "1", kWrong},
         {"(1,)", "1", kWrong},
         {"(,1)", "1", kWrong},
         {"(1, 2,)", "(1, 2)", kWrong},
         {"(1, )", "(1, 2)", kWrong},
         {"((1, 2))", "(1, 2)", kWrong},
         {"(1, 2) or (3, 4)", "(1, 2)", kWrong},
         {"(1; 2)", "(1, 2)", kWrong},
         {concat("(1", std::string(1 << 20, ','), ")"), "(1, 2)", kWrong}});
  CHECK_THROWS_AS(NumberVerifier("(1, x)"), ConfigError);
  CHECK_THROWS_AS(NumberVerifier("(1, 2 cm)"), ConfigError);
  CHECK_THROWS_AS(NumberVerifier("1, 2"), ConfigError);
}

TEST_CASE("Square roots of squares are numbers") {
  check({{R"(\sqrt{4})", "2"},
         {R"(\sqrt4)", "2"},
         {R"(-\sqrt{16})", "-4"},
         {R"(\sqrt{\frac{4}{9}})", "2/3"},
         {R"(\frac{\sqrt{4}}{3})", "2/3"},
         {R"(\sqrt{0.25})", "1/2"},
         {R"(\sqrt{10^{100}})", "10^{50}"},
         {"0.666667", R"(\sqrt{4/9})"},
         {"2", R"(\sqrt{4})"},
         {R"(\sqrt{2})", "2", kWrong},
         {R"(\sqrt{8})", "2.828427", kWrong},
         {R"(\sqrt{-4})", "-2", kWrong},
         {R"(\sqrt{4)", "2", kWrong},
         {R"(\sqrt16)", "4", kWrong},  // the root of 1, and a 6
         {R"(\sqrt[3]{8})", "2", kWrong},
         {R"(3\sqrt{4})", "6", kWrong},
         {R"(\sqrt{1e200}1)", "10^{100}", kWrong}});
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
         {R"(\frac{1}{12})", "0.0833333333333333", kWrong},
         {"355/113", "3.14159", kWrong},  // not every fraction near a decimal is right
         {"2.99999999", "3", kWrong},
         {"5/2", "2.5"},
         {"84/4", "21"},
         {"2^10", "1024"},
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
         {"1 000/4", "250", kWrong},
         {"411522", "1234567/3", kWrong}});
}

TEST_CASE("Percentages equal their figure and their value") {
  check({{"28", R"(28\%)"},
         {"0.28", "28%"},
         {"28%", "28"},
         {"28%", "0.28"},
         {R"(28 \%)", "28%"},
         {"150%", "1.5"},
         {"50%", "1/2"},
         {"5%", "5"},
         {"500%", "5", kWrong},
         {"100%", "1", kWrong},
         {"5", "500%"},
         {"2800%", "28%", kWrong},
         {"2.8", "28%", kWrong},
         {"28", "0.28", kWrong}});
}

TEST_CASE("A solution may name its variable, a chain ends in its answer") {
  check({{"x = 11", "11"},
         {"x=5+5+1 = 11", "11"},
         {R"(x = 2 \cdot (3+2) = \frac{20}{2} = 10)", "10"},
         {"x = -1/2 = -0.5", "-1/2"},
         {"x = 28% = 0.28", "0.28"},
         {"x=5+5+1 = 7 = 11", "11", kWrong},
         {"x = 99 or x = 3", "3", kWrong},
         {"x = 99, x = 3", "3", kWrong},
         {"x = 99 = 3", "3", kWrong},
         {"x =/= 3", "3", kWrong},
         {"x == 3", "3", kWrong},
         {"x = y = 3", "3", kWrong},
         {"x = 3 =", "3", kWrong},
         {"x = 1/0 = 3", "3", kWrong},
         {"x >= 3", "3", kWrong},
         {R"(x = \frac{3}{4})", "0.75"},
         {"x = 5 = 7", "5", kWrong},
         {"5 + 6", "11", kWrong},  // the question itself is no answer
         {"5 * 6", "30", kWrong},
         {"2x = 22", "11", kWrong},
         {"5 + 6 = 11", "11", kWrong},
         {"=11", "11", kWrong}});
}

TEST_CASE("An answer beyond the limits is wrong, as the truth is within them") {
  CHECK(reason_for("10^99999") == "not a number: an exponent beyond 65536");
  CHECK(reason_for(std::string(5000, '9')) == "not a number: a number of more than 4096 digits");
  CHECK(reason_for(std::string(20, '(')) == "not a number: nested deeper than 16");
  check({{"10^{100000}", "5", kWrong},
         {"9^{9^{9}}", "5", kWrong},
         {"9^9^9", "5", kWrong},
         {"1e999999999999999999999", "5", kWrong},
         {"1e-5000", "5", kWrong},
         {std::string(5000, '9'), "5", kWrong},
         {concat("0.", std::string(5000, '9')), "1", kWrong},
         {concat("0.", std::string(5000, '0'), "1"), "0", kWrong},
         {std::string(1 << 20, '9'), "5", kWrong},
         {std::string(1 << 20, '{'), "5", kWrong},
         {std::string(1 << 20, '('), "5", kWrong},
         {std::string(1 << 20, ')'), "5", kWrong},
         {std::string(1 << 20, '-'), "5", kWrong},
         {std::string(1 << 20, '\\'), "5", kWrong},
         {std::string(1 << 20, ' '), "5", kWrong},
         {concat("5", std::string(1 << 20, ' ')), "5"},
         {std::string(1 << 20, '0') + "5", "5", kWrong},
         {std::string("5\0", 2), "5", kWrong},
         {std::string("\0005", 2), "5", kWrong},
         {"\xff\xfe", "5", kWrong},
         {"\xef\xbc", "5", kWrong}});
}

TEST_CASE("All values of an answer together are bounded, however they are nested") {
  const std::string beyond = "not a number: numbers of more than 262144 bits together";
  int base = 0;
  CHECK(reason_for(tower_of_fractions(1, base)) == "other number");
  for (const int depth : {3, 8, 14}) {
    CHECK(reason_for(tower_of_fractions(depth, base)) == beyond);
  }
  CHECK(reason_for("(7^{30000})^{60000}") == beyond);
  CHECK(reason_for(R"(\frac{(7^{60000})^{1}}{3^{60000}})") == beyond);
  CHECK(reason_for("1e4096") == "other number");
  CHECK(reason_for("((((((((1e4096)*10^4096)*10^4096)*10^4096)*10^4096)*10^4096)*10^4096)"
                   "*10^4096)*10^-4096") == beyond);
}

TEST_CASE("Long answers are read in linear time") {
  const auto start = std::chrono::steady_clock::now();
  for (const std::string part :
       {",111", " 111", "\\frac", "{1}", "2^", "/1", "\\!", "e1", "x=", "=1", "{ cm}", "\\sqrt{",
        "\xe2\x88\x92", "\xef\xbc\x91", "^{\\circ}"}) {
    std::string text = part == "=1" ? "x" : "1";
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
  CHECK_THROWS_WITH(NumberVerifier("10^{100000}"), Catch::Contains("an exponent beyond"));
  CHECK_THROWS_WITH(NumberVerifier("5 cm"), Catch::Contains("has a unit"));
  CHECK_THROWS_AS(NumberVerifier("x = 2 = 3"), ConfigError);
}

}  // namespace fathom::rl
