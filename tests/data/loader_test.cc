#include "data/loader.h"

#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "data/training_data.h"
#include "tests/data/made_up_shards.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::data {
namespace {

TrainingDataOptions options_in(const test::TemporaryFolder& folder) {
  test::write_shard(folder.path() / "a.h5", test::made_up_documents("a", 400));
  return {.sources = {{.name = "a", .paths = {folder.path() / "a.h5"}}},
          .seed = 2,
          .sequence_length = 8};
}

// Tokens of a step in the order of the samples, gathered from all data ranks.
std::vector<std::int32_t> gathered(const TrainingData& data, const StepSamples& step,
                                   std::int64_t num_ranks, std::int64_t micro_batch_size) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(step.count * 8), -1);
  for (std::int64_t rank = 0; rank < num_ranks; ++rank) {
    const BatchLoader loader(data, {rank, num_ranks, micro_batch_size});
    std::vector<MicroBatch> batches;
    loader.read(step, batches);
    CHECK(static_cast<std::int64_t>(batches.size()) == loader.num_micro_batches(step.count));
    CHECK(batches[0].samples[0] == loader.first_sample(step));
    for (const MicroBatch& batch : batches) {
      CHECK(batch.num_sequences == micro_batch_size);
      for (std::size_t i = 0; i < batch.samples.size(); ++i) {
        std::copy_n(batch.tokens.begin() + static_cast<std::ptrdiff_t>(8 * i), 8,
                    tokens.begin() + (batch.samples[i] - step.first_sample) * 8);
      }
    }
  }
  return tokens;
}

TEST_CASE("Every number of data ranks and micro-batch size reads the same samples") {
  const test::TemporaryFolder folder;
  const TrainingData data(options_in(folder));
  const StepSamples step{.first_sample = 24, .count = 24};
  const std::vector<std::int32_t> want = data.read(24, 24).tokens;
  for (const std::int64_t num_ranks : {1, 2, 3, 4}) {
    for (const std::int64_t micro_batch_size : {1, 2}) {
      CHECK(gathered(data, step, num_ranks, micro_batch_size) == want);
    }
  }
  const BatchLoader loader(data, {0, 5, 2});
  CHECK_THROWS_AS(loader.num_micro_batches(24), ConfigError);
  CHECK_THROWS_AS(loader.num_micro_batches(0), ConfigError);
}

TEST_CASE("Prefetched steps are the steps read in line, in order or not") {
  const test::TemporaryFolder folder;
  const TrainingData data(options_in(folder));
  const BatchLoader loader(data, {1, 2, 2});
  std::vector<MicroBatch> want;
  Prefetcher prefetcher(loader);
  StepSamples step{.first_sample = 0, .count = 8};
  for (int i = 0; i < 50; ++i) {
    loader.read(step, want);
    const std::vector<MicroBatch>& found = prefetcher.take(step);
    step = {step.first_sample + step.count, i < 20 ? 8 : 12};
    prefetcher.request(step);
    REQUIRE(found.size() == want.size());
    for (std::size_t m = 0; m < want.size(); ++m) {
      CHECK(found[m].tokens == want[m].tokens);
      CHECK(found[m].samples == want[m].samples);
    }
    if (i % 7 == 3) {
      step.first_sample += 100;  // not what was requested
    }
    if (i % 11 == 3) {
      prefetcher.request(step);  // takes the place of the request before
    }
  }
}

TEST_CASE("An error while prefetching comes out of take, and reading goes on") {
  const test::TemporaryFolder folder;
  // Only the tokens are damaged: the shard opens.
  TrainingDataOptions options = options_in(folder);
  const auto path = folder.path() / "a.h5";
  std::string bytes = read_file(path);
  const Hdf5Reader::Dataset tokens = Hdf5Reader(path).dataset("tokens");
  bytes[static_cast<std::size_t>(tokens.file_offset)] ^= 1;
  write_file_atomically(path, bytes);
  const TrainingData data(options);
  const BatchLoader loader(data, {});
  Prefetcher prefetcher(loader);
  for (int i = 0; i < 3; ++i) {
    prefetcher.request({0, 4});
    CHECK_THROWS_AS(prefetcher.take({0, 4}), ConfigError);
  }
  prefetcher.request({0, 4});  // never taken: the destructor must not wait for it
}

}  // namespace
}  // namespace fathom::data
