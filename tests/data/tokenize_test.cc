#include "data/tokenize.h"

#include <fstream>
#include <string>

#include "core/error.h"
#include "core/file.h"
#include "data/token_shard.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_folder.h"

namespace fathom::data {
namespace {

const std::string kFixtures = test::source_path("tests/fixtures/tokenizer/");

TEST_CASE("Shards are the same, bit for bit, however many ranks write them") {
  const test::TemporaryFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "llama3.json");
  TokenizeOptions options{.files = {kFixtures + "corpus.txt", kFixtures + "texts.jsonl"},
                          .output_prefix = folder.path() / "one" / "train",
                          .text = {.min_document_bytes = 100},
                          .chunk_bytes = 3000};
  int num_reports = 0;
  const TokenizeProgress one = write_token_shards(
      tokenizer, options,
      [&](const TokenizeProgress& progress) { CHECK(progress.finished_shards == ++num_reports); });
  CHECK(one.num_shards == num_reports);
  CHECK(one.num_shards > 5);
  options.output_prefix = folder.path() / "three" / "train";
  options.world_size = 3;
  std::int64_t num_tokens = 0;
  for (options.rank = 2; options.rank >= 0; --options.rank) {
    num_tokens += write_token_shards(tokenizer, options, {}).num_tokens;
  }
  CHECK(num_tokens == one.num_tokens);
  for (std::int64_t i = 0; i < one.num_shards; ++i) {
    CHECK(read_file(shard_path(folder.path() / "one" / "train", i, one.num_shards)) ==
          read_file(shard_path(folder.path() / "three" / "train", i, one.num_shards)));
  }
}

TEST_CASE("The tokens of the shards decode to the text, and bytes are counted exactly") {
  const test::TemporaryFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "llama3.json");
  const TokenizeProgress progress = write_token_shards(tokenizer,
                                                       {.files = {kFixtures + "corpus.txt"},
                                                        .output_prefix = folder.path() / "t",
                                                        .text = {},
                                                        .chunk_bytes = 2500},
                                                       {});
  const std::string want = read_file(kFixtures + "corpus.txt");
  std::string text;
  std::int64_t num_bytes = 0;
  for (const TokenShard& shard : open_token_shards({folder.path() / "t"})) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(shard.num_tokens()));
    shard.read_tokens(0, tokens);
    text += tokenizer.decode(tokens);
    for (const std::int32_t token : tokens) {
      num_bytes += shard.vocabulary().text_bytes_per_token[static_cast<std::size_t>(token)];
    }
    CHECK_NOTHROW(check_tokenizer_hash(shard, tokenizer.hash()));
  }
  CHECK(text == want);
  CHECK(num_bytes == static_cast<std::int64_t>(want.size()));
  CHECK(progress.num_bytes == num_bytes);
}

TEST_CASE("Texts of special tokens in the data become no special tokens") {
  const test::TemporaryFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "llama3.json");
  std::ofstream(folder.path() / "a.txt") << "a<|end_of_sentence|>b<|fim_hole|>";
  write_token_shards(
      tokenizer,
      {.files = {folder.path() / "a.txt"}, .output_prefix = folder.path() / "t", .text = {}}, {});
  const TokenShard shard(shard_path(folder.path() / "t", 0, 1));
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(shard.num_tokens()));
  shard.read_tokens(0, tokens);
  for (const std::int32_t token : tokens) {
    CHECK_FALSE(tokenizer.is_special(token));
  }
}

TEST_CASE("Shards of another set under the same name are not mixed with") {
  const test::TemporaryFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "llama3.json");
  TokenizeOptions options{
      .files = {kFixtures + "corpus.txt"}, .output_prefix = folder.path() / "t", .text = {}};
  write_token_shards(tokenizer, options, {});
  CHECK_NOTHROW(write_token_shards(tokenizer, options, {}));
  options.chunk_bytes = 5000;
  CHECK_THROWS_AS(write_token_shards(tokenizer, options, {}), ConfigError);
  options.output_prefix = folder.path() / "";
  CHECK_THROWS_AS(write_token_shards(tokenizer, options, {}), ConfigError);
}

}  // namespace
}  // namespace fathom::data
