#include "data/added_token.h"

#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace fathom::data {
namespace {

using Sections = std::vector<std::pair<std::string, std::int32_t>>;

Sections sections_of(const std::vector<AddedToken>& tokens, const std::string& text) {
  Sections sections;
  const AddedTokenFinder finder(tokens);
  for (const AddedTokenFinder::Section& section : finder.sections(text)) {
    sections.emplace_back(section.text, section.token);
  }
  return sections;
}

TEST_CASE("Added tokens are found from left to right, the longest first") {
  const std::vector<AddedToken> tokens = {{"ab", 1}, {"abcd", 2}, {"bcd", 3}, {"c", 4}};
  CHECK(sections_of(tokens, "xabcdy") == Sections{{"x", -1}, {"abcd", 2}, {"y", -1}});
  CHECK(sections_of(tokens, "abcabc") == Sections{{"ab", 1}, {"c", 4}, {"ab", 1}, {"c", 4}});
  CHECK(sections_of(tokens, "bcabx") == Sections{{"b", -1}, {"c", 4}, {"ab", 1}, {"x", -1}});
  CHECK(sections_of(tokens, "") == Sections{});
  CHECK(sections_of({}, "ab") == Sections{{"ab", -1}});
}

TEST_CASE("Added tokens take the white space beside them") {
  const std::vector<AddedToken> tokens = {{.text = "<l>", .id = 1, .takes_left_space = true},
                                          {.text = "<r>", .id = 2, .takes_right_space = true}};
  CHECK(sections_of(tokens, "a \u3000<l> b<r>\n\u00a0 c") ==
        Sections{{"a", -1}, {" \u3000<l>", 1}, {" b", -1}, {"<r>\n\u00a0 ", 2}, {"c", -1}});
  // White space that is taken already.
  CHECK(sections_of(tokens, "<r> <l> ") == Sections{{"<r> ", 2}, {"<l>", 1}, {" ", -1}});
  CHECK(sections_of(tokens, "\xff <l>") == Sections{{"\xff", -1}, {" <l>", 1}});
}

TEST_CASE("Added tokens that are single words stand alone") {
  const std::vector<AddedToken> tokens = {{.text = "word", .id = 1, .single_word = true}};
  for (const char* text : {"word", " word ", "(word)", "\u00bdword", "word\xff", "\u2460word"}) {
    INFO(text);
    CHECK(sections_of(tokens, text).size() > (std::string(text) == "word" ? 0 : 1));
  }
  for (const char* text : {"words", "1word", "word_", "\u00e9word", "word\u0301", "word\u200d",
                           "\u2160word", "\u24b6word"}) {
    INFO(text);
    CHECK(sections_of(tokens, text) == Sections{{text, -1}});
  }
}

}  // namespace
}  // namespace fathom::data
