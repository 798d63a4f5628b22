#include "rl/rewards/score_state.h"

#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

namespace fathom::rl {

TEST_CASE("Scores of each rank reach every rank as they are") {
  const std::vector<std::vector<Score>> scores{
      {{.total = 1.0 / 3, .parts = {{1.0 / 3, "a"}}},
       {.total = std::nullopt, .parts = {{std::nullopt, "b\xFF"}}},
       {}},
      {},
      {{.total = -0.0, .parts = {{1.0, ""}, {2.0, "c"}}}}};
  std::vector<std::vector<std::vector<Score>>> received(3);
  test::run_ranks(3, [&](parallel::Communicator& world, Stream&) {
    const auto rank = static_cast<std::size_t>(world.rank());
    received[rank] = all_gather_scores(scores[rank], world);
  });
  for (const auto& on_rank : received) {
    REQUIRE(on_rank.size() == 3);
    for (std::size_t rank = 0; rank < 3; ++rank) {
      REQUIRE(on_rank[rank].size() == scores[rank].size());
      for (std::size_t i = 0; i < scores[rank].size(); ++i) {
        CHECK(on_rank[rank][i].total == scores[rank][i].total);
        CHECK(on_rank[rank][i].parts == scores[rank][i].parts);
      }
    }
  }
}

}  // namespace fathom::rl
