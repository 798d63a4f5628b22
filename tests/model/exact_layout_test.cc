// The flagship promise: the same bits in every layout, after 20 steps, by ==.
#include <array>
#include <cmath>

#include "tests/support/broken_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/small_training.h"

using namespace fathom;
using namespace fathom::testing;

namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr int kSteps = 3;  // ten times slower; what it looks for shows in the first steps
#else
constexpr int kSteps = 20;
#endif

std::int64_t num_weights(const Tensors& tensors) {
  std::int64_t count = 0;
  for (const auto& [key, values] : tensors) {
    count += key.ends_with(".weight") ? static_cast<std::int64_t>(values.size()) : 0;
  }
  return count;
}

SmallTraining long_training() {
  SmallTraining training;
  training.num_steps = kSteps;
  training.epsilon = 1e-8;
  return training;
}

// {pipeline, data, tensor, expert}, {stages a rank, layers of each stage}, micro-batch,
// recomputation, threads
const std::vector<Layout>& layouts() {
  static const std::vector<Layout> kTable = {
      // micro-batch sizes from 1 to 8, so accumulation from 8 to 1; threads; recomputation
      {{1, 1, 1, 1}, {}, 1, {}},
      {{1, 1, 1, 1}, {}, 4, {}, 2},
      {{1, 1, 1, 1}, {}, 8, {}, 2},
      {{1, 1, 1, 1}, {}, 2, {true, true, true, false}},
      {{1, 1, 1, 1}, {}, 2, {false, false, false, true}},
      {{1, 1, 1, 1}, {}, 2, {false, false, false, false, true}},
      // each axis alone, at 2 and at 4
      {{1, 2, 1, 1}, {}, 1, {}},
      {{1, 4, 1, 1}, {}, 2, {}},
      {{1, 1, 2, 1}, {}, 4, {}},
      {{1, 1, 4, 1}, {}, 1, {}},
      {{2, 1, 1, 1}, {}, 1, {}},
      {{4, 1, 1, 1}, {}, 2, {}},
      {{1, 2, 1, 2}, {}, 1, {}},
      {{1, 4, 1, 4}, {}, 1, {}},
      {{1, 1, 2, 2}, {}, 1, {}},
      // each pair
      {{2, 2, 1, 1}, {}, 1, {}},
      {{2, 1, 2, 1}, {}, 1, {}},
      {{1, 2, 2, 1}, {}, 4, {}},
      {{1, 2, 2, 2}, {}, 1, {}},
      {{1, 2, 2, 4}, {}, 2, {}},
      {{2, 2, 1, 2}, {}, 1, {}},
      {{2, 1, 2, 2}, {}, 1, {true, true, true, false, true}},
      // uneven stages, also without layers at either end and between; interleaving
      {{2, 1, 1, 1}, {1, {1, 3}}, 1, {}},
      {{2, 1, 1, 1}, {1, {2, 2}}, 1, {}},
      {{2, 1, 1, 1}, {1, {4, 0}}, 1, {}},
      {{2, 1, 2, 1}, {1, {0, 4}}, 1, {}},
      {{4, 1, 1, 1}, {1, {1, 1, 1, 1}}, 1, {}},
      {{4, 2, 1, 2}, {1, {2, 0, 2, 0}}, 1, {}},
      {{2, 1, 1, 1}, {2, {}}, 1, {}},
      {{2, 2, 1, 2}, {2, {1, 1, 2, 0}}, 1, {}},
      // three and all four, at 8 and 16 ranks
      {{2, 2, 2, 1}, {}, 1, {}},
      {{2, 2, 2, 2}, {}, 2, {}, 2},
      {{2, 2, 2, 4}, {2, {}}, 1, {false, false, false, true}},
      {{1, 2, 4, 8}, {}, 2, {}},
      {{2, 4, 2, 8}, {}, 1, {false, false, false, false, true}},
      {{4, 2, 2, 2}, {}, 1, {}},
      {{2, 2, 4, 4}, {}, 2, {}},
  };
  return kTable;
}

void check_layouts(const model::ModelOptions& options, const std::vector<Layout>& table) {
  Layout alone;
  alone.micro_batch_size = 2;
  const Training reference = train(exact(options), alone, long_training());
  REQUIRE(std::isfinite(reference.steps.back().loss));
  REQUIRE(reference.steps.back().is_finite);
  // Groups of parameters: one for each set of replicas, one for each parameter, something between.
  constexpr std::array<std::int64_t, 3> kGroupElements = {0, 1, 1000};
  for (std::size_t i = 0; i < table.size(); ++i) {
    Layout layout = table[i];
    layout.pipeline.group_elements = kGroupElements[i % kGroupElements.size()];
    INFO(testing::to_string(layout));
    CHECK(difference(reference, train(exact(options), layout, long_training())) == "");
  }
}

// A few layouts that together use every axis.
std::vector<Layout> some_layouts() {
  return {{{1, 4, 1, 4}, {}, 2, {false, false, false, false, true}},
          {{1, 1, 4, 2}, {}, 1, {}},
          {{2, 2, 2, 4}, {}, 1, {true, true, true, false}},
          {{2, 1, 2, 1}, {2, {}}, 4, {false, false, false, true}, 2}};
}

}  // namespace

TEST_CASE("EXACT: every layout has the bits of one rank") {
  check_layouts(small_options(), layouts());
}

TEST_CASE("EXACT: every layout has the bits of one rank, without q-LoRA and MTP") {
  model::ModelOptions options = small_options();
  options.q_lora_rank = 0;
  options.mtp_depth = 0;
  check_layouts(options, some_layouts());
}

TEST_CASE("EXACT: every layout has the bits of one rank, with V2's router and losses") {
  check_layouts(with_v2_router(small_options()), some_layouts());
}

TEST_CASE("EXACT: every layout has the bits of one rank, with two MTP modules") {
  model::ModelOptions options = small_options();
  options.mtp_depth = 2;
  check_layouts(options, some_layouts());
}

TEST_CASE("EXACT: the chunks of the head do not show in any layout") {
  model::ModelOptions options = small_options();
  options.mtp_depth = 2;
  Layout alone;
  alone.micro_batch_size = 2;
  const Training whole = train(exact(options), alone, long_training());
  options.head_chunk_tokens = 4;
  std::vector<Layout> table = some_layouts();
  table.push_back(alone);
  for (const Layout& layout : table) {
    INFO(testing::to_string(layout));
    CHECK(difference(whole, train(exact(options), layout, long_training())) == "");
  }
}

TEST_CASE("A step sees nothing of what the memory of gradients held before it") {
  const bool is_exact = GENERATE(true, false);
  const model::ModelOptions options = is_exact ? exact(small_options()) : small_options();
  std::vector<Layout> table = some_layouts();
  table.push_back({{1, 1, 1, 1}, {}, 2, {}});
  for (const Layout& layout : table) {
    INFO(testing::to_string(layout));
    SmallTraining how;
    const Training clean = train(options, layout, how);
    how.has_stale_gradients = true;
    CHECK(difference(clean, train(options, layout, how)) == "");
  }
}

TEST_CASE("EXACT: the check of layouts can fail") {
  Layout alone;
  const Training reference = train(exact(small_options()), alone, long_training());
  const auto part_at = [&](const Layout& layout, const SmallTraining& broken) {
    return difference(reference, train(exact(small_options()), layout, broken));
  };
  const auto with = [](Fault fault) {
    SmallTraining training = long_training();
    training.wrap = [fault](parallel::Communicator& world) {
      return break_communicator(world, fault);
    };
    return training;
  };
  const Layout tensor{{1, 1, 4, 1}, {}, 1, {}};
  const Layout data{{1, 2, 1, 1}, {}, 1, {}};
  // The wrapped communicator is otherwise a good one.
  CHECK(part_at(tensor, with(Fault::kNone)) == "");
  CHECK(part_at(data, with(Fault::kNone)) == "");
  // A float sum in another order.
  CHECK(part_at(tensor, with(Fault::kReversedSums)) != "");
  // A contribution that one rank leaves out.
  CHECK(part_at(data, with(Fault::kDroppedContribution)) != "");
  // Random numbers keyed by rank.
  SmallTraining by_rank = long_training();
  by_rank.seed_of_rank = [](int rank) { return static_cast<std::uint64_t>(rank); };
  CHECK(part_at(data, by_rank) != "");
}

TEST_CASE("EXACT holds and sends what FAST does, and 4 bytes more for each gradient") {
  SmallTraining one_step;
  one_step.num_steps = 1;
  for (const Layout& layout : layouts()) {
    INFO(testing::to_string(layout));
    const Training fast = train(small_options(), layout, one_step);
    const Training precise = train(exact(small_options()), layout, one_step);
    std::int64_t owned = 0;
    for (std::size_t rank = 0; rank < fast.ranks.size(); ++rank) {
      const RankFacts& a = fast.ranks[rank];
      const RankFacts& b = precise.ranks[rank];
      CHECK(b.num_parameters == a.num_parameters);
      CHECK(b.shard_elements == a.shard_elements);
      CHECK(b.gradient_bytes == 2 * a.gradient_bytes);
      owned += b.shard_elements;
      for (const auto& [axis, bytes] : a.bytes_sent) {
        INFO("rank " << rank << ", " << axis);
        // Gradients of 8 bytes instead of 4 out, values of 4 back.
        const bool carries_gradients = axis == "data" || axis == "plane" || axis == "expert_data" ||
                                       axis == "shared_embedding";
        if (carries_gradients) {
          CHECK(b.bytes_sent.at(axis) <= bytes + bytes / 2 + 64);
          CHECK(b.bytes_sent.at(axis) >= bytes);
        } else if (axis == "expert") {  // counts of rows by unit: 8 bytes each
          const std::int64_t more = b.bytes_sent.at(axis) - bytes;
          CHECK(more % 8 == 0);
          CHECK(more >= 0);
          CHECK(more <= bytes / 8);
        } else {
          CHECK(b.bytes_sent.at(axis) == bytes);
        }
      }
    }
    // Every weight and its optimizer states on exactly one rank.
    CHECK(owned == num_weights(precise.weights));
  }
}
