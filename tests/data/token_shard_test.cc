#include "data/token_shard.h"

#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "tests/data/made_up_shards.h"
#include "tests/support/catch.h"
#include "tests/support/open_file_limit.h"
#include "tests/support/paths.h"
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
  CHECK(shard.read_document_offsets() == content.document_offsets);
  CHECK(shard.read_document_bytes() == content.document_bytes);
  for (const std::size_t document : {0UL, 1UL, 12'345UL, 29'999UL}) {
    const TokenRange range = shard.document(static_cast<std::int64_t>(document));
    CHECK(range.begin == content.document_offsets[document]);
    CHECK(range.begin + range.size == content.document_offsets[document + 1]);
  }
  CHECK(shard.vocabulary().vocab_size == vocab_size);
  CHECK(shard.vocabulary().tokenizer_hash == "0123456789abcdef");
  CHECK(shard.vocabulary().special_tokens == content.vocabulary.special_tokens);
  CHECK(shard.vocabulary().text_bytes_per_token == content.vocabulary.text_bytes_per_token);
  std::vector<std::int32_t> all(content.tokens.size());
  shard.read_tokens(0, all);
  CHECK(all == content.tokens);
  for (const std::int64_t begin : {0L, 1L, 4'090L, 4'096L, 131'070L, shard.num_tokens() - 7}) {
    std::vector<std::int32_t> part(7);
    shard.read_tokens(begin, part);
    CHECK(std::equal(part.begin(), part.end(), content.tokens.begin() + begin));
  }
  std::vector<std::int32_t> long_part(10'000);  // of four blocks
  shard.read_tokens(4'000, long_part);
  CHECK(std::equal(long_part.begin(), long_part.end(), content.tokens.begin() + 4'000));
  shard.verify();
}

TEST_CASE("A shard that an earlier program wrote, of blocks of 65,536 tokens, is read") {
  const TokenShard shard(test::source_path("tests/fixtures/data/token_shard_version_1.h5"));
  const TokenShardContent want = test::shard_of(test::made_up_documents("version 1", 40));
  REQUIRE(shard.num_tokens() == std::ssize(want.tokens));
  std::vector<std::int32_t> tokens(want.tokens.size());
  shard.read_tokens(0, tokens);
  CHECK(tokens == want.tokens);
  CHECK(shard.read_document_offsets() == want.document_offsets);
  CHECK(shard.read_document_bytes() == want.document_bytes);
  CHECK(shard.vocabulary().text_bytes_per_token == want.vocabulary.text_bytes_per_token);
  shard.verify();
}

// Files below the folder that this process has open.
std::int64_t num_open_in(const std::filesystem::path& folder) {
  std::int64_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const std::string target = std::filesystem::read_symlink(entry.path(), error).string();
    count += target.starts_with(folder.string()) ? 1 : 0;
  }
  return count;
}

TEST_CASE("A set of more shards than files may be open is read, and few of them stay open") {
  const test::TemporaryFolder folder;
  constexpr std::int64_t kNumShards = 100;
  for (std::int64_t i = 0; i < kNumShards; ++i) {
    test::write_shard(shard_path(folder.path() / "t", i, kNumShards),
                      {{static_cast<std::int32_t>(i % 90), 7}});
  }
  const test::OpenFileLimit limit(64);
  const std::vector<TokenShard> shards = open_token_shards({folder.path() / "t"});
  REQUIRE(std::ssize(shards) == kNumShards);
  for (int round = 0; round < 2; ++round) {
    for (std::int64_t i = 0; i < kNumShards; ++i) {
      std::vector<std::int32_t> tokens(2);
      shards[static_cast<std::size_t>(i)].read_tokens(0, tokens);
      CHECK(tokens == std::vector<std::int32_t>{static_cast<std::int32_t>(i % 90), 7});
    }
  }
  CHECK(num_open_in(folder.path()) == 16);  // a quarter of the limit
}

TEST_CASE("Shards of one tokenizer share its table, others have their own") {
  const test::TemporaryFolder folder;
  TokenShardContent content = test::shard_of({{1, 2}});
  const auto write = [&](const std::string& name) {
    write_token_shard(folder.path() / name, content);
    return folder.path() / name;
  };
  const TokenShard first(write("a.h5"));
  const TokenShard same(write("b.h5"), &first);
  CHECK(&same.vocabulary() == &first.vocabulary());
  content.vocabulary.text_bytes_per_token[5] += 1;
  const TokenShard other_table(write("c.h5"), &first);
  CHECK(other_table.vocabulary().text_bytes_per_token == content.vocabulary.text_bytes_per_token);
  CHECK(first.vocabulary().text_bytes_per_token[5] + 1 ==
        other_table.vocabulary().text_bytes_per_token[5]);
  content.vocabulary.text_bytes_per_token[5] -= 1;
  content.vocabulary.special_tokens.pad = -1;
  const TokenShard other_tokens(write("d.h5"), &first);
  CHECK(other_tokens.vocabulary().special_tokens.pad == -1);
  content.vocabulary.special_tokens.pad = first.vocabulary().special_tokens.pad;
  content.vocabulary.tokenizer_hash = "fedcba9876543210";
  const TokenShard other_hash(write("e.h5"), &first);
  CHECK(other_hash.vocabulary().tokenizer_hash == "fedcba9876543210");
}

TEST_CASE("A shard that was replaced while it was closed is refused by name") {
  const test::TemporaryFolder folder;
  const test::OpenFileLimit limit(16);  // room for four open shards
  const TokenShard shard(test::write_shard(folder.path() / "a.h5", {{1, 2}, {3}}));
  std::vector<std::int32_t> tokens(2);
  shard.read_tokens(0, tokens);
  for (const std::string name : {"b.h5", "c.h5", "d.h5", "e.h5"}) {
    const TokenShard other(test::write_shard(folder.path() / name, {{1, 2}}), &shard);
    other.read_tokens(0, tokens);
  }
  test::write_shard(folder.path() / "a.h5", test::made_up_documents("longer", 5000));
  CHECK_THROWS_AS(shard.read_tokens(0, tokens), IoError);
}

TEST_CASE("The same content makes the same file") {
  const test::TemporaryFolder folder;
  const auto documents = test::made_up_documents("shard", 50);
  test::write_shard(folder.path() / "a.h5", documents);
  test::write_shard(folder.path() / "b.h5", documents);
  CHECK(read_file(folder.path() / "a.h5") == read_file(folder.path() / "b.h5"));
}

TEST_CASE("A hash of the contents tells shards apart by their tokens and their documents") {
  const test::TemporaryFolder folder;
  const auto contents_of = [&](const TokenShardContent& content) {
    write_token_shard(folder.path() / "a.h5", content);
    return TokenShard(folder.path() / "a.h5").contents();
  };
  TokenShardContent content = test::shard_of(test::made_up_documents("shard", 10));
  const std::uint64_t before = contents_of(content);
  CHECK(contents_of(content) == before);
  content.tokens[3] ^= 1;
  CHECK(contents_of(content) != before);
  content.tokens[3] ^= 1;
  ++content.document_offsets[1];
  CHECK(contents_of(content) != before);
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
