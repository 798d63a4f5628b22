#include "data/tokenize.h"

#include <fstream>
#include <string>

#include "core/error.h"
#include "core/file.h"
#include "data/token_shard.h"
#include "tests/data/byte_tokenizer.h"
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
                          .shard_bytes = 3000};
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
                                                        .shard_bytes = 2500},
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

TEST_CASE("A tokenizer without an end of sentence is refused with the texts that were looked for") {
  CHECK_NOTHROW(require_end_of_sentence(Tokenizer::load(kFixtures + "llama3.json"), "t.json"));
  CHECK_THROWS_WITH(require_end_of_sentence(test::byte_tokenizer({"</s>"}), "t.json"),
                    Catch::Contains("t.json: no added token ends a sentence") &&
                        Catch::Contains("<|end_of_text|>, <|endoftext|>"));
}

TEST_CASE("Small files share a shard, large ones are cut, and the order is that of the files") {
  const test::TemporaryFolder folder;
  TokenizeOptions options{.files = {}, .text = {}, .shard_bytes = 100};
  for (const int size : {40, 60, 20, 250, 100, 1, 0}) {
    options.files.push_back(folder.path() / concat(options.files.size()));
    std::ofstream(options.files.back()) << std::string(static_cast<std::size_t>(size), 'a');
  }
  std::string found;
  for (const std::vector<TextChunk>& shard : plan_shards(options)) {
    for (const TextChunk& chunk : shard) {
      found += concat(chunk.file.filename().string(), ":", chunk.begin, "-", chunk.end, " ");
    }
    found += "| ";
  }
  CHECK(found ==
        "0:0-40 1:0-60 | 2:0-20 | 3:0-100 | 3:100-200 | 3:200-250 | 4:0-100 | 5:0-1 6:0-0 | ");
}

TEST_CASE("Shards have a 256th of the text, within bounds") {
  const test::TemporaryFolder folder;
  const auto of_gibibytes = [&](const std::vector<std::int64_t>& sizes) {
    std::vector<std::filesystem::path> files;
    for (const std::int64_t size : sizes) {
      files.push_back(folder.path() / concat(files.size()));
      std::ofstream(files.back()) << "";
      std::filesystem::resize_file(files.back(), static_cast<std::uintmax_t>(size) << 30);
    }
    return default_shard_bytes(files);
  };
  CHECK(of_gibibytes({0}) == 32 << 20);
  CHECK(of_gibibytes({1, 2}) == 32 << 20);
  CHECK(of_gibibytes({10, 6}) == 64 << 20);
  CHECK(of_gibibytes({100, 100, 200}) == 1 << 30);
  CHECK(plan_shards({.files = {kFixtures + "corpus.txt"}, .text = {}}).size() == 1);
}

TEST_CASE("Shards of another set under the same name are not mixed with") {
  const test::TemporaryFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "llama3.json");
  TokenizeOptions options{
      .files = {kFixtures + "corpus.txt"}, .output_prefix = folder.path() / "t", .text = {}};
  write_token_shards(tokenizer, options, {});
  CHECK_NOTHROW(write_token_shards(tokenizer, options, {}));
  options.shard_bytes = 5000;
  CHECK_THROWS_AS(write_token_shards(tokenizer, options, {}), ConfigError);
  options.output_prefix = folder.path() / "";
  CHECK_THROWS_AS(write_token_shards(tokenizer, options, {}), ConfigError);
}

}  // namespace
}  // namespace fathom::data
