// What a mixture of experts computes again, when its rows travel, and what works meanwhile.
#include "model/moe.h"

#include <algorithm>
#include <array>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/recording_communicator.h"
#include "tests/support/run_ranks.h"
#include "tests/support/small_training.h"

namespace fathom::testing {
namespace {

constexpr model::RecomputeOptions kExperts{.experts = true};
constexpr model::RecomputeOptions kLayers{.layers = true};
constexpr model::RecomputeOptions kAll{
    .norms = true, .swiglu = true, .mla_up_projections = true, .experts = true};

bool is_exchange(const Communication& one) {
  return one.group == "expert" && one.operation == "all_to_all";
}

struct Exchanges {
  int num_started = 0;
  int num_beside_shared = 0;  // with the whole of the shared expert between start and wait
};

// Of rank 0 in one step. With tensor parallelism a shared expert gathers its input and scatters its
// output, or their gradients; balance losses are off.
Exchanges exchanges_of(const model::RecomputeOptions& recompute) {
  const Layout layout{{1, 2, 2, 4}, {}, 2, recompute};
  std::vector<CommunicationLog> logs(static_cast<std::size_t>(layout.mesh.world_size()));
  SmallTraining how;
  how.num_steps = 1;
  how.wrap = [&](parallel::Communicator& world) {
    return record_communication(world, logs[static_cast<std::size_t>(world.rank())]);
  };
  model::ModelOptions options = small_options();
  options.moe.sequence_balance_coefficient = 0.0F;
  train(options, layout, how);
  Exchanges found;
  int num_under_way = 0;
  int num_scattered = 0;
  for (const Communication& one : logs[0]) {
    if (is_exchange(one)) {
      found.num_started += one.is_wait ? 0 : 1;
      num_under_way += one.is_wait ? -1 : 1;
      found.num_beside_shared += one.is_wait ? num_scattered : 0;
      num_scattered = num_under_way == 0 ? 0 : num_scattered;
    } else if (one.group == "tensor" && one.operation == "reduce_scatter" && one.is_wait) {
      num_scattered += num_under_way > 0 ? 1 : 0;
    }
  }
  return found;
}

constexpr int kMoeLayers = 3 + 1;  // of small_options(), with MTP's
constexpr int kMicroBatches = 2;   // of a data rank: 8 sequences over 2 ranks, 2 at a time

}  // namespace

TEST_CASE("What is computed again has the bits of what was kept") {
  model::ModelOptions options = small_options();
  options = GENERATE(true, false) ? exact(options) : options;
  options.moe.num_shared_experts = GENERATE(1, 0);
  const parallel::MeshShape mesh =
      GENERATE(parallel::MeshShape{1, 1, 1, 1}, parallel::MeshShape{1, 2, 2, 4},
               parallel::MeshShape{2, 2, 2, 2});
  Layout layout{mesh, {}, 2, {}};
  const Training kept = train(options, layout);
  for (const model::RecomputeOptions& recompute : {kExperts, kLayers, kAll}) {
    layout.recompute = recompute;
    INFO(to_string(layout) << ", shared experts " << options.moe.num_shared_experts);
    CHECK(difference(kept, train(options, layout)) == "");
  }
}

TEST_CASE("Counts of rows are exchanged once, rows as often as they must be") {
  // Counts, and rows there and back, in the forward; in the backward there and back, and where
  // experts compute again their input, the gates, and the gates' gradients.
  CHECK(exchanges_of({}).num_started == kMoeLayers * kMicroBatches * (3 + 2));
  CHECK(exchanges_of(kExperts).num_started == kMoeLayers * kMicroBatches * (3 + 5));
  CHECK(exchanges_of(kLayers).num_started == kMoeLayers * kMicroBatches * (3 + 5));
}

TEST_CASE("The selection bias falls where an expert has more than the mean and rises where less") {
  model::ModelOptions options = small_options();
  options.moe.num_experts = 4;
  options.moe.num_groups = 1;
  options.moe.num_kept_groups = 1;
  Tensors state;
  test::run_ranks(1, [&](parallel::Communicator& world, Stream& stream) {
    const parallel::Mesh mesh(world, {});
    model::Moe moe("mlp.", options, mesh);
    moe.allocate_state(stream);
    moe.update_selection_bias(std::array<std::int64_t, 4>{4, 4, 8, 0}, 0.001F, stream);
    StoreTensors store(state);
    moe.visit_state(store, true);
  });
  CHECK(state.at("mlp.gate.e_score_correction_bias") == std::vector{0.0F, 0.0F, -0.001F, 0.001F});
}

TEST_CASE("The shared expert works while rows are under way to the experts") {
  // In the forward and in the backward; there it meets all that experts need to compute again.
  CHECK(exchanges_of({}).num_beside_shared == kMoeLayers * kMicroBatches * (1 + 1));
  CHECK(exchanges_of(kExperts).num_beside_shared == kMoeLayers * kMicroBatches * (1 + 3));
}

}  // namespace fathom::testing
