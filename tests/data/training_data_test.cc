#include "data/training_data.h"

#include <algorithm>
#include <map>
#include <vector>

#include "core/error.h"
#include "core/hexadecimal.h"
#include "data/checksum.h"
#include "tests/data/made_up_shards.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::data {
namespace {

TEST_CASE("A sample worked by hand: tokens, targets at all depths, weights, positions, bytes") {
  const test::TemporaryFolder folder;
  test::write_shard(folder.path() / "a.h5", {{1, 2, 3}, {4, 5}, {6, 7, 8, 9}});
  TrainingDataOptions options{.sources = {{.paths = {folder.path() / "a.h5"}}},
                              .sequence_length = 5,
                              .mtp_depth = 1,
                              .order = DocumentOrder::kAsStored};
  // Stream: 1 2 3 91 4 5 91 6 7 8 9 91: windows of 5 + 1 + 1 tokens, two of them; 11 of 12 tokens
  // used.
  const MicroBatch batch = TrainingData(options).read(0, 2);
  CHECK(batch.tokens == std::vector<std::int32_t>{1, 2, 3, 91, 4, 5, 91, 6, 7, 8});
  CHECK(std::vector(batch.targets_at(0).begin(), batch.targets_at(0).end()) ==
        std::vector<std::int32_t>{2, 3, 91, 4, 5, 91, 6, 7, 8, 9});
  CHECK(std::vector(batch.targets_at(1).begin(), batch.targets_at(1).end()) ==
        std::vector<std::int32_t>{3, 91, 4, 5, 91, 6, 7, 8, 9, 91});
  CHECK(batch.loss_weights == std::vector<float>(20, 1.0F));
  CHECK(batch.positions == std::vector<std::int32_t>{0, 1, 2, 3, 4, 0, 1, 2, 3, 4});
  CHECK(batch.segments == std::vector<std::int32_t>{0, 5, 10});
  CHECK(batch.target_bytes == std::vector<std::int32_t>{3, 1, 0, 2, 3, 0, 1, 2, 3, 1});
  CHECK(batch.samples == std::vector<std::int64_t>{0, 1});

  options.segments = Segments::kDocuments;
  const MicroBatch isolated = TrainingData(options).read(0, 2);
  CHECK(isolated.tokens == batch.tokens);
  CHECK(isolated.segments == std::vector<std::int32_t>{0, 4, 5, 7, 10});
  CHECK(isolated.positions == std::vector<std::int32_t>{0, 1, 2, 3, 0, 0, 1, 0, 1, 2});
  const std::vector<float> want = {
      1, 1, 1, 0, 1, 1, 0, 1, 1, 1,   // the eos predicts nothing
      1, 1, 0, 0, 1, 0, 0, 1, 1, 1};  // nor does the token before it at depth 1
  CHECK(isolated.loss_weights == want);
  CHECK(isolated.target_bytes == std::vector<std::int32_t>{3, 1, 0, 0, 3, 0, 0, 2, 3, 1});
}

TEST_CASE("A source shorter than a sequence is one padded sample") {
  const test::TemporaryFolder folder;
  test::write_shard(folder.path() / "a.h5", {{1, 2}});
  const TrainingData data({.sources = {{.paths = {folder.path() / "a.h5"}}}, .sequence_length = 5});
  const MicroBatch batch = data.read(7, 1);
  CHECK(batch.tokens == std::vector<std::int32_t>{1, 2, 91, 91, 91});
  CHECK(batch.loss_weights == std::vector<float>{1, 1, 0, 0, 0});
}

TrainingDataOptions two_sources(const test::TemporaryFolder& folder) {
  test::write_shard(folder.path() / "a.h5", test::made_up_documents("a", 300));
  test::write_shard(folder.path() / "b.h5", test::made_up_documents("b", 100));
  return {.sources = {{.name = "a", .paths = {folder.path() / "a.h5"}, .weight = 3.0},
                      {.name = "b", .paths = {folder.path() / "b.h5"}, .weight = 1.0}},
          .seed = 11,
          .sequence_length = 16,
          .mtp_depth = 1,
          .fim_rate = 0.2,
          .segments = Segments::kDocuments};
}

bool is_same(const MicroBatch& a, const MicroBatch& b) {
  return a.tokens == b.tokens && a.targets == b.targets && a.loss_weights == b.loss_weights &&
         a.positions == b.positions && a.segments == b.segments && a.samples == b.samples &&
         a.target_bytes == b.target_bytes;
}

TEST_CASE("A sample is a function of options and index alone, whatever was read before") {
  const test::TemporaryFolder folder;
  const TrainingDataOptions options = two_sources(folder);
  const TrainingData forwards(options);
  const TrainingData backwards(options);
  // Several epochs of b.
  const std::int64_t count = 4 * forwards.sources()[1]->samples_per_epoch() * 4;
  std::vector<MicroBatch> first;
  for (std::int64_t i = 0; i < count; ++i) {
    first.push_back(forwards.read(i, 1));
  }
  for (std::int64_t i = count; i-- > 0;) {
    CHECK(is_same(backwards.read(i, 1), first[static_cast<std::size_t>(i)]));
  }
  // A larger batch is the smaller ones side by side.
  const MicroBatch many = TrainingData(options).read(5, 8);
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(std::equal(first[5 + i].tokens.begin(), first[5 + i].tokens.end(),
                     many.tokens.begin() + static_cast<std::ptrdiff_t>(16 * i)));
  }
}

// Two shards, so that documents lie on both sides of a border, and samples of three epochs.
std::uint64_t checksum_of_run(TrainingDataOptions options) {
  const test::TemporaryFolder folder;
  test::write_shard(shard_path(folder.path() / "t", 0, 2), test::made_up_documents("t0", 1900));
  test::write_shard(shard_path(folder.path() / "t", 1, 2), test::made_up_documents("t1", 700));
  options.sources = {{.name = "t", .paths = {folder.path() / "t"}}};
  options.seed = 29;
  options.sequence_length = 32;
  const TrainingData data(options);
  const MicroBatch batch = data.read(0, 3 * data.sources()[0]->samples_per_epoch());
  Checksum64 sum;
  sum.add(std::as_bytes(std::span(batch.tokens)));
  sum.add(std::as_bytes(std::span(batch.segments)));
  return sum.value();
}

TEST_CASE("The order of a run's tokens is a contract: checksums of the first release") {
  CHECK(hexadecimal(checksum_of_run({})) == "65af9d369fedd30f");
  CHECK(hexadecimal(checksum_of_run({.fim_rate = 0.4, .segments = Segments::kDocuments})) ==
        "41972797b62b1746");
  CHECK(hexadecimal(checksum_of_run({.document_start = DocumentStart::kBos})) ==
        "c2321758ac9eda04");
  CHECK(hexadecimal(checksum_of_run({.order = DocumentOrder::kAsStored, .fim_rate = 0.4})) ==
        "2a91597b6517717f");
}

TEST_CASE("Every window of an epoch is read once, in another order each epoch") {
  const test::TemporaryFolder folder;
  const TrainingData data(two_sources(folder));
  const SourceStream& source = *data.sources()[0];
  const std::int64_t per_epoch = source.samples_per_epoch();
  REQUIRE(per_epoch > 50);
  std::vector<std::int64_t> orders[2];
  for (std::int64_t i = 0; i < 2 * per_epoch; ++i) {
    const SourceStream::Place place = source.place_of(i);
    CHECK(place.epoch == i / per_epoch);
    orders[place.epoch].push_back(place.window);
  }
  CHECK(orders[0] != orders[1]);
  for (auto& order : orders) {
    CHECK_FALSE(std::is_sorted(order.begin(), order.end()));
    std::sort(order.begin(), order.end());
    for (std::int64_t i = 0; i < per_epoch; ++i) {
      CHECK(order[static_cast<std::size_t>(i)] == i);
    }
  }
}

TEST_CASE("Adding a source does not change the samples of the others, only their turns") {
  const test::TemporaryFolder folder;
  TrainingDataOptions options = two_sources(folder);
  const TrainingData both(options);
  options.sources.erase(options.sources.begin());
  const TrainingData only_b(options);
  std::int64_t index_in_b = 0;
  for (std::int64_t i = 0; i < 40; ++i) {
    if (both.describe(i).source == "b") {
      CHECK(both.read(i, 1).tokens == only_b.read(index_in_b++, 1).tokens);
    }
  }
  CHECK(index_in_b == 10);
}

TEST_CASE("Data that moves to another folder is read in the same order") {
  const test::TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "elsewhere");
  test::write_shard(folder.path() / "a.h5", test::made_up_documents("a", 300));
  test::write_shard(folder.path() / "elsewhere" / "a.h5", test::made_up_documents("a", 300));
  const auto open = [](const std::vector<std::filesystem::path>& paths) {
    TrainingDataOptions options{.sequence_length = 16};
    for (const std::filesystem::path& path : paths) {
      options.sources.push_back({.paths = {path}});
    }
    return TrainingData(options);
  };
  const TrainingData here = open({folder.path() / "a.h5"});
  const TrainingData there = open({folder.path() / "elsewhere" / "a.h5"});
  CHECK(here.read(0, 20).tokens == there.read(0, 20).tokens);
  const TrainingData both = open({folder.path() / "a.h5", folder.path() / "elsewhere" / "a.h5"});
  CHECK(both.sources()[0]->name() == "a.h5");
  CHECK(both.sources()[1]->name() == "a.h5 #2");
  CHECK(both.read(0, 1).tokens != both.read(1, 1).tokens);
}

TEST_CASE("A description names the documents that a sample is made of") {
  const test::TemporaryFolder folder;
  test::write_shard(shard_path(folder.path() / "t", 0, 2), {{1, 2, 3}});
  test::write_shard(shard_path(folder.path() / "t", 1, 2), {{4, 5}, {6, 7, 8, 9}});
  const TrainingData data({.sources = {{.name = "t", .paths = {folder.path() / "t"}}},
                           .sequence_length = 5,
                           .order = DocumentOrder::kAsStored});
  // Stream: 1 2 3 91 | 4 5 91 | 6 7 8 9 91; window 1 is 5 91 6 7 8 9.
  const SampleDescription sample = data.describe(3);
  CHECK(sample.epoch == 1);
  CHECK(sample.window == 1);
  CHECK(sample.source == "t");
  REQUIRE(sample.documents.size() == 2);
  CHECK(sample.documents[0].shard == shard_path(folder.path() / "t", 1, 2));
  CHECK(sample.documents[0].document == 0);
  CHECK(sample.documents[0].begin == 1);
  CHECK(sample.documents[0].size == 2);
  CHECK(sample.documents[1].document == 1);
  CHECK(sample.documents[1].begin == 0);
  CHECK(sample.documents[1].size == 4);
}

TEST_CASE("Contradictory training data is refused before anything is read") {
  const test::TemporaryFolder folder;
  TrainingDataOptions options = two_sources(folder);
  TokenShardContent foreign = test::shard_of({{1}});
  foreign.vocabulary.tokenizer_hash = "fedcba9876543210";
  write_token_shard(folder.path() / "c.h5", foreign);
  options.sources.push_back({.name = "c", .paths = {folder.path() / "c.h5"}});
  CHECK_THROWS_AS(TrainingData(options), ConfigError);
  options.sources.pop_back();
  options.sources[1].name = "a";
  CHECK_THROWS_AS(TrainingData(options), ConfigError);
  options.sources.clear();
  CHECK_THROWS_AS(TrainingData(options), ConfigError);
  CHECK_THROWS_AS(TrainingData({.sources = {{}}, .sequence_length = 4}), ConfigError);
}

}  // namespace
}  // namespace fathom::data
