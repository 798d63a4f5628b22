#include "model/routing_record.h"

#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"
#include "tests/support/small_training.h"
#include "trainer/evaluate_step.h"

namespace fathom::testing {
namespace {

TinyBatch small_batch() {
  TinyBatch batch;
  batch.num_sequences = kSmallSequences;
  batch.sequence_length = kSmallLength;
  for (std::int64_t i = 0; i < kSmallSequences * kSmallLength; ++i) {
    batch.tokens.push_back(static_cast<std::int32_t>((i * i + 3) % 64));
    batch.targets.push_back(static_cast<std::int32_t>((i * 7 + 1) % 64));
    batch.masks.push_back(1.0F);
  }
  return batch;
}

// Sum of the losses under weights drawn from `seed`.
double loss_under(TinyRun& run, std::uint64_t seed, model::RoutingRecord* routing, Stream& stream) {
  run.model().initialize(seed);
  trainer::TokenCounts counts;
  const auto micro_batches = run.micro_batches(small_batch(), 0.0, counts);
  trainer::EvaluateStep step(run.model(), run.mesh(), stream);
  trainer::EvaluateOptions options;
  options.routing = routing;
  step.run(micro_batches, options);
  return step.take_totals().token_losses[0];
}

}  // namespace

TEST_CASE("A pass with a complete record has the experts of the pass that wrote it") {
  model::ModelOptions options = small_options();
  options.mtp_depth = 0;
  Layout layout;
  layout.mesh = GENERATE(parallel::MeshShape{1, 1, 1, 1}, parallel::MeshShape{2, 1, 2, 2});
  layout.micro_batch_size = 4;
  test::run_ranks(layout.mesh.world_size(), [&](parallel::Communicator& world, Stream& stream) {
    TinyRun run(options, layout, world, stream);
    model::RoutingRecord routing;
    const double first = loss_under(run, 1, &routing, stream);
    REQUIRE(first == loss_under(run, 1, nullptr, stream));
    routing.complete();
    CHECK(loss_under(run, 1, &routing, stream) == first);
    // Other weights choose other experts, unless they are told which.
    CHECK(loss_under(run, 2, &routing, stream) != loss_under(run, 2, nullptr, stream));
  });
}

}  // namespace fathom::testing
