#include "data/token_shard.h"

#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "tests/data/made_up_shards.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::data {
namespace {

TEST_CASE("A token shard reads back as it was written") {
  const test::TemporaryFolder folder;
  const auto vocab_size = GENERATE(96, 100'000);  // as uint16 and as uint32
  TokenShardContent content = test::shard_of(test::made_up_documents("shard", 30'000));
  content.vocabulary.vocab_size = vocab_size;
  content.vocabulary.text_bytes_per_token.resize(static_cast<std::size_t>(vocab_size), 4);
  content.tokens[100'000] = vocab_size - 1;
  write_token_shard(folder.path() / "a.h5", content);
  const TokenShard shard(folder.path() / "a.h5");
  CHECK(shard.num_tokens() == static_cast<std::int64_t>(content.tokens.size()));
  CHECK(shard.num_tokens() > 2 * 65536);  // several blocks
  CHECK(shard.num_documents() == 30'000);
  CHECK(std::vector(shard.document_offsets().begin(), shard.document_offsets().end()) ==
        content.document_offsets);
  CHECK(std::vector(shard.document_bytes().begin(), shard.document_bytes().end()) ==
        content.document_bytes);
  CHECK(shard.vocabulary().vocab_size == vocab_size);
  CHECK(shard.vocabulary().tokenizer_hash == "0123456789abcdef");
  CHECK(shard.vocabulary().special_tokens == content.vocabulary.special_tokens);
  CHECK(shard.vocabulary().text_bytes_per_token == content.vocabulary.text_bytes_per_token);
  std::vector<std::int32_t> all(content.tokens.size());
  shard.read_tokens(0, all);
  CHECK(all == content.tokens);
  for (const std::int64_t begin : {0L, 1L, 65'535L, 65'536L, 131'070L, shard.num_tokens() - 7}) {
    std::vector<std::int32_t> part(7);
    shard.read_tokens(begin, part);
    CHECK(std::equal(part.begin(), part.end(), content.tokens.begin() + begin));
  }
  shard.verify();
}

TEST_CASE("The same content makes the same file") {
  const test::TemporaryFolder folder;
  const auto documents = test::made_up_documents("shard", 50);
  test::write_shard(folder.path() / "a.h5", documents);
  test::write_shard(folder.path() / "b.h5", documents);
  CHECK(read_file(folder.path() / "a.h5") == read_file(folder.path() / "b.h5"));
}

TEST_CASE("A shard may be empty, a data set may not") {
  const test::TemporaryFolder folder;
  const TokenShard shard(test::write_shard(folder.path() / "a.h5", {}));
  CHECK(shard.num_tokens() == 0);
  CHECK(shard.num_documents() == 0);
  shard.read_tokens(0, {});
}

TEST_CASE("Sets of shards are found by file, folder and prefix, and must be complete") {
  const test::TemporaryFolder folder;
  const auto prefix = folder.path() / "train-x";
  CHECK(shard_path("p/train", 3, 12).string() == "p/train-00003-of-00012.h5");
  for (std::int64_t i = 0; i < 3; ++i) {
    test::write_shard(shard_path(prefix, i, 3), {{static_cast<std::int32_t>(i)}});
  }
  test::write_shard(folder.path() / "other.h5", {{7}});
  CHECK(open_token_shards({prefix}).size() == 3);
  CHECK(open_token_shards({folder.path()}).size() == 4);
  CHECK(open_token_shards({shard_path(prefix, 1, 3)}).size() == 1);
  CHECK(open_token_shards({prefix, folder.path() / "other.h5"}).size() == 4);
  CHECK_THROWS_AS(open_token_shards({}), ConfigError);
  CHECK_THROWS_AS(open_token_shards({folder.path() / "none"}), IoError);
  test::write_shard(shard_path(prefix, 0, 2), {{1}});
  CHECK_THROWS_AS(open_token_shards({prefix}), ConfigError);
  std::filesystem::remove(shard_path(prefix, 0, 2));
  std::filesystem::remove(shard_path(prefix, 1, 3));
  try {
    open_token_shards({prefix});
    FAIL("an incomplete set was opened");
  } catch (const IoError& error) {
    CHECK(error.message().find("train-x-00001-of-00003.h5") != std::string::npos);
  }
}

TEST_CASE("Vocabularies that do not fit are refused with the numbers") {
  const test::TemporaryFolder folder;
  TokenShardContent content = test::shard_of({{1, 2}});
  write_token_shard(folder.path() / "a.h5", content);
  content.vocabulary.tokenizer_hash = "fedcba9876543210";
  write_token_shard(folder.path() / "b.h5", content);
  CHECK_THROWS_AS(open_token_shards({folder.path()}), ConfigError);
  const TokenShard shard(folder.path() / "a.h5");
  CHECK_NOTHROW(check_model_vocabulary(shard, 96));
  CHECK_NOTHROW(check_model_vocabulary(shard, 128));
  try {
    check_model_vocabulary(shard, 95);
    FAIL("a model of 95 rows took ids up to 95");
  } catch (const ConfigError& error) {
    CHECK(error.message().find("96") != std::string::npos);
    CHECK(error.message().find("95") != std::string::npos);
    CHECK(error.message().find("a.h5") != std::string::npos);
  }
  CHECK_NOTHROW(check_tokenizer_hash(shard, "0123456789abcdef"));
  CHECK_THROWS_AS(check_tokenizer_hash(shard, "fedcba9876543210"), ConfigError);
}

TEST_CASE("A shard cannot be written with a token beyond its vocabulary") {
  const test::TemporaryFolder folder;
  TokenShardContent content = test::shard_of({{1, 2}});
  content.tokens[1] = 96;
  CHECK_THROWS_AS(write_token_shard(folder.path() / "a.h5", content), InternalError);
  CHECK_FALSE(std::filesystem::exists(folder.path() / "a.h5"));
}

}  // namespace
}  // namespace fathom::data
