#include "data/pretokenizer.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"

namespace fathom::data {
namespace {

const std::string kFixtures = test::source_path("tests/fixtures/tokenizer/");

std::vector<std::string> pieces_of(const PretokenizerDefinition& definition,
                                   const std::string& text) {
  std::vector<std::string> pieces;
  Pretokenizer(definition).for_each_piece(text, [&](std::string_view piece) {
    pieces.emplace_back(piece);
  });
  return pieces;
}

std::vector<std::string> pieces_of(const char* published, const std::string& text) {
  return pieces_of(published_pretokenizer(published), text);
}

std::vector<std::size_t> sizes_of(const Pretokenizer& pretokenizer, const std::string& text) {
  std::vector<std::size_t> sizes;
  pretokenizer.for_each_piece(text, [&](std::string_view piece) { sizes.push_back(piece.size()); });
  return sizes;
}

TEST_CASE("Hard texts are cut where the regular expressions of the tokenizers package cut them") {
  const std::string name = GENERATE("llama3", "gpt2");
  const Pretokenizer pretokenizer(published_pretokenizer(name));
  std::ifstream lines(kFixtures + "texts.jsonl");
  int num_texts = 0;
  for (std::string line; std::getline(lines, line); ++num_texts) {
    const nlohmann::json entry = nlohmann::json::parse(line);
    INFO(line);
    CHECK(sizes_of(pretokenizer, entry["text"].get<std::string>()) ==
          entry[name + "_pieces"].get<std::vector<std::size_t>>());
  }
  CHECK(num_texts > 50);
}

TEST_CASE("The chains of the published models cut harder texts as the tokenizers package does") {
  const std::string name = GENERATE("llama3", "qwen2", "deepseek-v2", "deepseek-v3");
  const Pretokenizer pretokenizer(published_pretokenizer(name));
  std::ifstream lines(kFixtures + "shapes/texts.jsonl");
  int num_texts = 0;
  for (std::string line; std::getline(lines, line); ++num_texts) {
    const nlohmann::json entry = nlohmann::json::parse(line);
    INFO(name << ": " << line);
    CHECK(sizes_of(pretokenizer, entry["text"].get<std::string>()) ==
          entry["pieces"][name].get<std::vector<std::size_t>>());
  }
  CHECK(num_texts > 100);
}

TEST_CASE("Splits worked by hand") {
  using Pieces = std::vector<std::string>;
  CHECK(pieces_of("llama3", "It'S 12345 (see)!\n\n x") ==
        Pieces{"It", "'S", " ", "123", "45", " (", "see", ")!\n\n", " x"});
  CHECK(pieces_of("qwen2", "It'S 123") == Pieces{"It", "'S", " ", "1", "2", "3"});
  CHECK(pieces_of("gpt2", "It'S 12345 (see)!\n\n x") ==
        Pieces{"It", "'", "S", " 12345", " (", "see", ")!", "\n\n", " x"});
  CHECK(pieces_of("llama3", "a   b \n  c  ") == Pieces{"a", "  ", " b", " \n", " ", " c", "  "});
  // Numbers are cut out before words: the spaces before them are the end of a piece.
  CHECK(pieces_of("deepseek-v3", "a  1234 .x 漢字か!\n\n b") ==
        Pieces{"a", "  ", "123", "4", " .", "x", " ", "漢字か", "!\n\n", " b"});
  // V2's marks of punctuation have the letters of ASCII among them, which cuts "Über" again.
  CHECK(pieces_of("deepseek-v2", "an Über\n\n漢 12") ==
        Pieces{"an", " Ü", "ber", "\n", "\n", "漢", " ", "1", "2"});
}

TEST_CASE("Steps that drop or add text") {
  using Pieces = std::vector<std::string>;
  using Keeps = SplitStep::Keeps;
  CHECK(pieces_of({.splits = {{"[,;]+", Keeps::kRest}}}, ",a,;b") == Pieces{"a", "b"});
  CHECK(pieces_of({.splits = {{"[a-z]+", Keeps::kMatches}}}, "ab1c") == Pieces{"ab", "c"});
  CHECK(pieces_of({.splits = {{"[,;]+"}}}, "a,;b") == Pieces{"a", ",;", "b"});
  CHECK(pieces_of({.splits = {{"-"}}, .adds_prefix_space = true, .splits_as_gpt2 = true},
                  "a- b,") == Pieces{" a", " -", " b", ","});
}

TEST_CASE("Invalid UTF-8 is cut byte by byte and nothing is lost") {
  const std::string text = "a\xff\xc3 b\xe2\x82\xf0\x9f\x98";
  for (const char* name : {"gpt2", "llama3", "qwen2", "deepseek-v2", "deepseek-v3"}) {
    std::string all;
    for (const std::string& piece : pieces_of(name, text)) {
      CHECK_FALSE(piece.empty());
      all += piece;
    }
    CHECK(all == text);
  }
}

TEST_CASE("Megabytes of one character are cut at once, by every chain") {
  for (const char* name : {"gpt2", "llama3", "qwen2", "deepseek-v2", "deepseek-v3"}) {
    const Pretokenizer pretokenizer(published_pretokenizer(name));
    for (const std::string character :
         {"a", " ", "^", "\n", "1", "'", "\u0300", "\u200d", "\u00a0", "漢", "\r\n", " \n", "a ",
          "\x80", "\U0001f600", "\u0378"}) {
      std::string text;
      while (text.size() < 1'000'000) {
        text += character;
      }
      std::size_t size = 0;
      pretokenizer.for_each_piece(text, [&](std::string_view piece) { size += piece.size(); });
      CHECK(size == text.size());
    }
  }
}

TEST_CASE("A split that no model has is refused with those that there are") {
  try {
    published_pretokenizer("deepseek");
    FAIL("no error");
  } catch (const ConfigError& error) {
    CHECK(error.message().find("\"deepseek\"") != std::string::npos);
    CHECK(error.message().find("deepseek-v3") != std::string::npos);
  }
}

}  // namespace
}  // namespace fathom::data
