#include "data/evaluation_data.h"

#include <numeric>
#include <vector>

#include "core/error.h"
#include "tests/data/made_up_shards.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::data {
namespace {

TEST_CASE("Evaluation worked by hand: non-overlapping windows and padding at the end") {
  const test::TemporaryFolder folder;
  test::write_shard(folder.path() / "a.h5", {{1, 2, 3}, {4, 5}});
  const EvaluationData data({.paths = {folder.path() / "a.h5"}, .sequence_length = 4});
  // 91 | 1 2 3 91 4 5 91
  CHECK(data.num_sequences() == 2);
  CHECK(data.num_targets() == 7);
  CHECK(data.num_bytes() == 2 + 3 + 1 + 2 + 3);
  const MicroBatch batch = data.read(0, 3);
  CHECK(batch.tokens == std::vector<std::int32_t>{91, 1, 2, 3, 91, 4, 5, 91, 91, 91, 91, 91});
  CHECK(std::vector(batch.targets.begin(), batch.targets.begin() + 8) ==
        std::vector<std::int32_t>{1, 2, 3, 91, 4, 5, 91, 91});
  CHECK(batch.loss_weights == std::vector<float>{1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0});
  CHECK(std::accumulate(batch.target_bytes.begin(), batch.target_bytes.end(), 0) == 11);
}

TEST_CASE("Every token of the text is a target exactly once, at any length and stride") {
  const test::TemporaryFolder folder;
  const auto documents = test::made_up_documents("eval", 60);
  test::write_shard(folder.path() / "a.h5", documents);
  std::vector<std::int32_t> want;
  for (const auto& document : documents) {
    want.insert(want.end(), document.begin(), document.end());
    want.push_back(91);
  }
  for (std::int64_t sequence_length = 1; sequence_length < 40; ++sequence_length) {
    for (std::int64_t stride = 1; stride <= sequence_length; stride += 3) {
      const EvaluationData data({.paths = {folder.path() / "a.h5"},
                                 .sequence_length = sequence_length,
                                 .mtp_depth = 1,
                                 .stride = stride});
      const MicroBatch batch = data.read(0, data.num_sequences());
      std::vector<std::int32_t> seen;
      for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
        if (batch.loss_weights[i] != 0.0F) {
          seen.push_back(batch.targets[i]);
        }
      }
      REQUIRE(seen == want);
      REQUIRE(data.num_targets() == static_cast<std::int64_t>(want.size()));
      REQUIRE(std::accumulate(batch.target_bytes.begin(), batch.target_bytes.end(),
                              std::int64_t{0}) == data.num_bytes());
    }
  }
}

TEST_CASE("Isolated documents are segments of their own in evaluation too") {
  const test::TemporaryFolder folder;
  test::write_shard(folder.path() / "a.h5", {{1, 2}, {3}});
  const EvaluationData plain(
      {.paths = {folder.path() / "a.h5"}, .sequence_length = 6, .segments = Segments::kDocuments});
  // 91 1 2 91 | 3 91: the first eos leads into the first document.
  CHECK(plain.read(0, 1).segments == std::vector<std::int32_t>{0, 4, 6});
  const EvaluationData with_bos({.paths = {folder.path() / "a.h5"},
                                 .sequence_length = 8,
                                 .document_start = DocumentStart::kBos,
                                 .segments = Segments::kDocuments});
  CHECK(with_bos.read(0, 1).tokens == std::vector<std::int32_t>{91, 90, 1, 2, 91, 90, 3, 91});
}

TEST_CASE("Impossible evaluation options are refused") {
  const test::TemporaryFolder folder;
  const auto path = test::write_shard(folder.path() / "a.h5", {{1, 2}});
  CHECK_THROWS_AS(EvaluationData({.paths = {path}, .sequence_length = 0}), ConfigError);
  CHECK_THROWS_AS(EvaluationData({.paths = {path}, .sequence_length = 4, .stride = 5}),
                  ConfigError);
  CHECK_THROWS_AS(EvaluationData({.paths = {}, .sequence_length = 4}), ConfigError);
}

}  // namespace
}  // namespace fathom::data
