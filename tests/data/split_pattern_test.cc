#include "data/split_pattern.h"

#include <random>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/class_run_pattern.h"
#include "data/pcre2_pattern.h"
#include "data/pretokenizer.h"
#include "data/word_patterns.h"
#include "tests/support/catch.h"

namespace fathom::data {
namespace {

std::shared_ptr<const UnicodeClasses> classes() {
  static const auto kShared = std::make_shared<const UnicodeClasses>();
  return kShared;
}

using Matches = std::vector<std::pair<std::size_t, std::size_t>>;

Matches matches_of(const SplitPattern& pattern, std::string_view text) {
  Matches matches;
  pattern.for_each_match(text,
                         [&](TextRange match) { matches.emplace_back(match.begin, match.end); });
  return matches;
}

Matches pcre2_matches(const std::string& regex, std::string_view text) {
  return matches_of(*make_pcre2_pattern(regex), text);
}

std::vector<std::string> published_regexes() {
  std::vector<std::string> regexes = {std::string(kGpt2Regex),
                                      "\\p{N}+",
                                      "\\s?\\p{L}+",
                                      "\\s?\\p{P}+",
                                      "\\p{S}{1,2}",
                                      "\\p{M}",
                                      "[0-9]",
                                      "[a-c-]+",
                                      "[-a]"};
  for (const char* name : {"llama3", "qwen2", "deepseek-v2", "deepseek-v3"}) {
    for (const SplitStep& split : published_pretokenizer(name).splits) {
      regexes.push_back(split.regex);
    }
  }
  return regexes;
}

// Texts of what patterns tell apart, by chance; a few of them with bytes that are no UTF-8.
std::string random_text(std::mt19937& random) {
  const std::vector<std::string> parts = {" ",
                                          " ",
                                          "  ",
                                          "\n",
                                          "\r",
                                          "\r\n",
                                          "\t",
                                          "\v",
                                          "\xc2\x85",
                                          "\xc2\xa0",
                                          "\xe3\x80\x80",
                                          "\u2028",
                                          "\u180e",
                                          "\u200b",
                                          "'",
                                          "'s",
                                          "'LL",
                                          "'re",
                                          "\u017f",
                                          "a",
                                          "b",
                                          "Z",
                                          "the",
                                          "A",
                                          "\u00e9",
                                          "\u0301",
                                          "\u0300\u0323",
                                          "\u0416",
                                          "\u1f7d",
                                          "\u03ce",
                                          "\u1f5f",
                                          "\u212a",
                                          "\u0294",
                                          "\u6f22",
                                          "\u3042",
                                          "\u30fc",
                                          "\u9fa5",
                                          "\u9fa6",
                                          "\u4e00",
                                          "\u0800",
                                          "\uac00",
                                          "\ud7ff",
                                          "1",
                                          "23",
                                          "\u0967",
                                          "\u00bd",
                                          "\u2167",
                                          "!",
                                          ",",
                                          "-",
                                          "_",
                                          "(",
                                          "\\",
                                          "^",
                                          "~",
                                          "+",
                                          "$",
                                          "\u20ac",
                                          "\uff01",
                                          "\u3002",
                                          "\u2018",
                                          "\u2026",
                                          "\U0001f600",
                                          "\u200d",
                                          "\ufe0f",
                                          "\U00010400",
                                          "\x01",
                                          "\x7f",
                                          "\u0378",
                                          "\ue000",
                                          "\U0010ffff"};
  const std::vector<std::string> broken = {"\xff",         "\xc3", "\xe2\x82",
                                           "\xed\xa0\x80", "\x80", "\xf0\x9f\x98"};
  std::string text;
  const bool is_broken = random() % 4 == 0;
  for (std::size_t count = random() % 40; count > 0; --count) {
    const bool take_broken = is_broken && random() % 6 == 0;
    const std::vector<std::string>& from = take_broken ? broken : parts;
    text += from[random() % from.size()];
  }
  return text;
}

TEST_CASE("Scanners match where PCRE2 does, on any bytes") {
  std::mt19937 random(5);
  std::vector<std::string> texts;
  for (int i = 0; i < 2000; ++i) {
    texts.push_back(random_text(random));
  }
  for (const std::string& regex : published_regexes()) {
    INFO(regex);
    const bool has_scanner = make_word_pattern(regex, classes()) != nullptr ||
                             make_class_run_pattern(regex, *classes()) != nullptr;
    const auto reference = make_pcre2_pattern(regex);
    const auto scanner = make_split_pattern(regex, classes());
    // DeepSeek-V3's words are recognized with the newlines escaped.
    CHECK((has_scanner || regex.find('\n') != std::string::npos));
    std::size_t num_matches = 0;
    for (const std::string& text : texts) {
      const Matches want = matches_of(*reference, text);
      num_matches += want.size();
      INFO(text);
      REQUIRE(matches_of(*scanner, text) == want);
    }
    CHECK(num_matches > 100);
  }
}

TEST_CASE("Scanners know every character of Unicode 14 as PCRE2 does") {
  // Each character between two of the kinds that it may join.
  for (const std::string& regex : published_regexes()) {
    INFO(regex);
    const auto reference = make_pcre2_pattern(regex);
    const auto scanner = make_split_pattern(regex, classes());
    const std::uint32_t stride = regex == kLlama3Regex || regex == kDeepSeekV3WordsRegex ? 1 : 7;
    for (std::uint32_t code_point = 0; code_point < 0x30000; code_point += stride) {
      // Letters and symbols that later versions added.
      const UnicodeClass now = classes()->class_of(code_point);
      if ((code_point >= 0xd800 && code_point < 0xe000) || now == UnicodeClass::kOther) {
        continue;
      }
      std::string text = "a ";
      append_utf8(code_point, text);
      text += "b1";
      if (matches_of(*scanner, text) != matches_of(*reference, text)) {
        INFO(std::hex << code_point);
        std::string alone;
        append_utf8(code_point, alone);
        // In no category of PCRE2's version.
        CHECK(pcre2_matches("[\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}\\s\\p{Cf}\\p{Cc}\\p{Co}]", alone)
                  .empty());
      }
    }
  }
}

TEST_CASE("An expression without a scanner is run by PCRE2") {
  CHECK(pcre2_matches("ab|[c-e]x", "abcxfxdx") == Matches{{0, 2}, {2, 4}, {6, 8}});
  CHECK(pcre2_matches("(?<=a)b", "abb") == Matches{{1, 2}});
  CHECK(pcre2_matches("\\s+$", "a  \n  b  ") == Matches{{1, 3}, {7, 9}});
  // Each byte that is no UTF-8 is a character of no class.
  CHECK(pcre2_matches("[^a]", "a\xff\xe2\x82 b") ==
        Matches{{1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 6}});
  CHECK(pcre2_matches("[^a\\s]+\\s", "\xff\xff \xc3 a") == Matches{{0, 3}, {3, 5}});
  CHECK(pcre2_matches("\\s", "\u180e\u2003") == Matches{{3, 6}});
  CHECK(pcre2_matches("[^\\s]", "\u180e\u2003") == Matches{{0, 3}});
  CHECK(pcre2_matches("\\S[\\S]", "ab \u180e\u200bc") == Matches{{0, 2}, {3, 9}});
}

TEST_CASE("An expression that takes too long is an error that names it") {
  const std::string text = std::string(2000, 'a') + "b";
  try {
    pcre2_matches("(a+)+[^a-z]", text);
    FAIL("no error");
  } catch (const ConfigError& error) {
    CHECK(error.message().find("(a+)+[^a-z]") != std::string::npos);
    CHECK(error.message().find("2001 bytes") != std::string::npos);
  }
}

TEST_CASE("Deep matches need no deep stack") {
  const std::string text(300'000, 'a');
  CHECK(pcre2_matches("(?:a|b)+", text) == Matches{{0, text.size()}});
}

TEST_CASE("What PCRE2 takes in another sense than Oniguruma is refused by name") {
  for (const char* regex :
       {"[a-z&&[^b]]", "[[:alpha:]]+", "\\w+", "a\\b", "\\h", "\\p{Han}", "\\p{^L}", "\\pL",
        "(?m:a)", "(?<n>a)", "a{,3}", "(?:a{1,2}+)", "(*UTF)a", "a(*SKIP)b", "(?:(*ACCEPT)a)",
        "[]a]", "\\Ka", "[[a]b]", "a\\"}) {
    INFO(regex);
    try {
      make_split_pattern(regex, classes());
      FAIL("no error");
    } catch (const ConfigError& error) {
      CHECK(error.message().find(regex) != std::string::npos);
      CHECK(error.message().find("not supported") != std::string::npos);
    }
  }
}

TEST_CASE("A newline in an expression is one, with a backslash before it or without") {
  for (const char* regex : {"a\nb", "a\\\nb", "a\\nb"}) {
    INFO(regex);
    CHECK(matches_of(*make_split_pattern(regex, classes()), "xa\nba\\nb") == Matches{{1, 4}});
  }
  CHECK(matches_of(*make_split_pattern("a\\\\\nb", classes()), "a\nba\\\nb") == Matches{{3, 7}});
}

TEST_CASE("An expression that is malformed or matches nothing is refused by name") {
  for (const char* regex : {"(a", "a{2,1}", "[b-a]", "*", "a*", "(?=a)", ""}) {
    INFO(regex);
    CHECK_THROWS_AS(make_split_pattern(regex, classes()), ConfigError);
  }
}

}  // namespace
}  // namespace fathom::data
