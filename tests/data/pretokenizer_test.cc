#include "data/pretokenizer.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/paths.h"

namespace fathom::data {
namespace {

std::vector<std::string> pieces_of(SplitPattern pattern, const std::string& text) {
  std::vector<std::string> pieces;
  Pretokenizer(pattern).for_each_piece(text,
                                       [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

TEST_CASE("Hard texts are cut where the regular expressions of the tokenizers package cut them") {
  std::ifstream lines(test::source_path("tests/fixtures/tokenizer/texts.jsonl"));
  int num_texts = 0;
  for (std::string line; std::getline(lines, line); ++num_texts) {
    const nlohmann::json entry = nlohmann::json::parse(line);
    INFO(line);
    for (const auto& [pattern, name] : {std::pair(SplitPattern::kLlama3, "llama3_pieces"),
                                        std::pair(SplitPattern::kGpt2, "gpt2_pieces")}) {
      std::vector<std::size_t> sizes;
      for (const std::string& piece : pieces_of(pattern, entry["text"].get<std::string>())) {
        sizes.push_back(piece.size());
      }
      CHECK(sizes == entry[name].get<std::vector<std::size_t>>());
    }
  }
  CHECK(num_texts > 50);
}

TEST_CASE("Splits worked by hand") {
  using Pieces = std::vector<std::string>;
  CHECK(pieces_of(SplitPattern::kLlama3, "It'S 12345 (see)!\n\n x") ==
        Pieces{"It", "'S", " ", "123", "45", " (", "see", ")!\n\n", " x"});
  CHECK(pieces_of(SplitPattern::kGpt2, "It'S 12345 (see)!\n\n x") ==
        Pieces{"It", "'", "S", " 12345", " (", "see", ")!", "\n\n", " x"});
  CHECK(pieces_of(SplitPattern::kLlama3, "a   b \n  c  ") ==
        Pieces{"a", "  ", " b", " \n", " ", " c", "  "});
}

TEST_CASE("Invalid UTF-8 is cut byte by byte and nothing is lost") {
  const std::string text = "a\xff\xc3 b\xe2\x82\xf0\x9f\x98";
  for (const SplitPattern pattern : {SplitPattern::kLlama3, SplitPattern::kGpt2}) {
    std::string all;
    for (const std::string& piece : pieces_of(pattern, text)) {
      CHECK_FALSE(piece.empty());
      all += piece;
    }
    CHECK(all == text);
  }
}

}  // namespace
}  // namespace fathom::data
