#include "data/bpe_trainer.h"

#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "data/tokenizer_json.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"

namespace fathom::data {
namespace {

const std::string kFixtures = test::source_path("tests/fixtures/tokenizer/");

TEST_CASE("train_bpe learns what the tokenizers package learns from the same text") {
  const std::string split = GENERATE("llama3", "gpt2");
  WordCounts words(published_pretokenizer(split));
  words.add(read_file(kFixtures + "corpus.txt"));
  const Tokenizer trained = train_bpe(words, {.vocab_size = 480});
  const std::string file = kFixtures + split + ".json";
  const TokenizerDefinition want = parse_tokenizer_json(read_file(file), file);
  const TokenizerDefinition found = parse_tokenizer_json(trained.json(), "trained");
  CHECK(found.pretokenizer == want.pretokenizer);
  CHECK(found.tokens == want.tokens);
  REQUIRE(found.merges.size() == want.merges.size());
  for (std::size_t rank = 0; rank < want.merges.size(); ++rank) {
    CHECK(found.merges[rank].left == want.merges[rank].left);
    CHECK(found.merges[rank].right == want.merges[rank].right);
    CHECK(found.merges[rank].result == want.merges[rank].result);
  }
}

// The two texts of each merge, by rank.
std::vector<std::pair<std::string, std::string>> merged_texts(
    const TokenizerDefinition& definition) {
  std::vector<std::pair<std::string, std::string>> texts;
  for (const BpeMerge& merge : definition.merges) {
    texts.emplace_back(definition.tokens[static_cast<std::size_t>(merge.left)],
                       definition.tokens[static_cast<std::size_t>(merge.right)]);
  }
  return texts;
}

TEST_CASE("train_bpe learns the same with the splits of the published models") {
  const std::string split = GENERATE("qwen2", "deepseek-v2", "deepseek-v3");
  WordCounts words(published_pretokenizer(split));
  words.add(read_file(kFixtures + "shapes/corpus.txt"));
  const Tokenizer trained = train_bpe(words, {.vocab_size = 800, .special_tokens = {}});
  const std::string file = kFixtures + "shapes/" + split + ".json";
  CHECK(merged_texts(parse_tokenizer_json(trained.json(), "trained")) ==
        merged_texts(parse_tokenizer_json(read_file(file), file)));
}

TEST_CASE("train_bpe on a text worked by hand") {
  WordCounts words;
  words.add("ab ab abc");  // words: ab, " ab", " abc"; pairs: ab 3, " a" 2, bc 1
  const Tokenizer tokenizer = train_bpe(words, {.vocab_size = 260, .special_tokens = {"<eos>"}});
  CHECK(tokenizer.vocab_size() == 260);
  // First ab, then " ab" (2), then " ab" + c (1); as ids 256, 257, 258, then the special token.
  CHECK(tokenizer.decode(std::vector<std::int32_t>{256}) == "ab");
  CHECK(tokenizer.decode(std::vector<std::int32_t>{257}) == " ab");
  CHECK(tokenizer.decode(std::vector<std::int32_t>{258}) == " abc");
  CHECK(tokenizer.token_id("<eos>") == 259);
}

TEST_CASE("Overlapping pairs are counted right after a merge") {
  WordCounts words;
  words.add("aaaaa");
  const Tokenizer tokenizer = train_bpe(words, {.vocab_size = 300, .special_tokens = {}});
  // aa, then aa + aa (ids 256 256, before 256 a as a < 256: the smaller id first), then the rest.
  CHECK(tokenizer.encode("aaaaa").size() == 1);
  CHECK(tokenizer.vocab_size() < 300);  // nothing left to merge
}

TEST_CASE("Word counts do not depend on who counted what") {
  const std::string text = read_file(kFixtures + "corpus.txt");
  const std::size_t half = text.find("\n\n", text.size() / 2) + 2;
  WordCounts whole;
  WordCounts first;
  WordCounts second;
  first.add(text.substr(0, half));
  second.add(text.substr(half));
  whole.add(text.substr(0, half));
  whole.add(text.substr(half));
  second.merge(first);
  CHECK(train_bpe(second, {.vocab_size = 400}).json() ==
        train_bpe(whole, {.vocab_size = 400}).json());
}

TEST_CASE("Impossible vocabularies are refused") {
  WordCounts words;
  words.add("text");
  CHECK_THROWS_AS(train_bpe(words, {.vocab_size = 261}), ConfigError);
  CHECK_NOTHROW(train_bpe(words, {.vocab_size = 262}));
  CHECK_THROWS_AS(train_bpe(words, {.vocab_size = 300, .special_tokens = {"a", "a"}}), ConfigError);
  CHECK_THROWS_AS(train_bpe(words, {.vocab_size = 300, .special_tokens = {""}}), ConfigError);
}

}  // namespace
}  // namespace fathom::data
