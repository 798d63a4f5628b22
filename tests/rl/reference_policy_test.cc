#include "rl/reference_policy.h"

#include <mutex>
#include <vector>

#include "tests/rl/tiny_policy.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

namespace fathom::rl {
namespace {

// All that this rank computes with.
std::vector<std::vector<float>> values_of(TinyPolicy& policy) {
  std::vector<std::vector<float>> values;
  for (const parallel::ParameterGroup& group : policy.model().parameters().groups()) {
    const auto all = group.values.values<float>();
    values.emplace_back(all.begin(), all.end());
  }
  return values;
}

std::vector<testing::Layout> layouts() {
  std::vector<testing::Layout> result;
  for (const parallel::MeshShape& mesh :
       {parallel::MeshShape{1, 1, 1, 1}, parallel::MeshShape{1, 2, 1, 1},
        parallel::MeshShape{1, 2, 1, 2}, parallel::MeshShape{2, 1, 2, 2}}) {
    result.emplace_back().mesh = mesh;
  }
  return result;
}

// Published weights of a seed, as a checkpoint has them: with ".reference" after their names.
testing::Tensors save_reference(const testing::Layout& layout, std::uint64_t seed) {
  testing::Tensors saved;
  std::mutex mutex;
  test::run_ranks(layout.mesh.world_size(), [&](parallel::Communicator& world, Stream& stream) {
    TinyPolicy policy(policy_options(), layout, world, stream);
    policy.initialize(seed);
    ReferencePolicy reference(policy.model().parameters(), stream);
    reference.refresh();
    policy.initialize(seed + 1);  // what is saved is not what is trained
    const std::lock_guard lock(mutex);
    testing::StoreTensors store(saved);
    reference.visit_state(store);
  });
  return saved;
}

}  // namespace

TEST_CASE("The reference stands in for the current weights while it is asked, and no longer") {
  for (const testing::Layout& layout : layouts()) {
    INFO(testing::to_string(layout));
    test::run_ranks(layout.mesh.world_size(), [&](parallel::Communicator& world, Stream& stream) {
      TinyPolicy policy(policy_options(), layout, world, stream);
      policy.initialize(3);
      const auto kept = values_of(policy);
      ReferencePolicy reference(policy.model().parameters(), stream);
      reference.refresh();
      policy.initialize(4);
      const auto current = values_of(policy);
      FATHOM_CHECK(current != kept);
      for (int time = 0; time < 2; ++time) {
        bool was_called = false;
        reference.run([&] {
          was_called = true;
          FATHOM_CHECK(values_of(policy) == kept, "not the reference");
        });
        FATHOM_CHECK(was_called && values_of(policy) == current, "not the weights from before");
      }
      reference.refresh();
      reference.run([&] { FATHOM_CHECK(values_of(policy) == current, "not refreshed"); });
    });
  }
}

TEST_CASE("A reference is saved whole and loads onto any layout") {
  const testing::Tensors saved = save_reference({}, 3);
  testing::Tensors weights;
  test::run_ranks(1, [&](parallel::Communicator& world, Stream& stream) {
    TinyPolicy policy(policy_options(), {}, world, stream);
    policy.initialize(3);
    policy.store(weights);
  });
  std::size_t num_weights = 0;
  for (const auto& [key, values] : weights) {
    if (key.ends_with(".weight")) {
      ++num_weights;
      CHECK(saved.at(key + ".reference") == values);
    }
  }
  CHECK(saved.size() == num_weights);

  for (const testing::Layout& layout : layouts()) {
    INFO(testing::to_string(layout));
    CHECK(save_reference(layout, 3) == saved);
    test::run_ranks(layout.mesh.world_size(), [&](parallel::Communicator& world, Stream& stream) {
      TinyPolicy policy(policy_options(), layout, world, stream);
      policy.initialize(3);
      const auto want = values_of(policy);
      policy.initialize(4);
      ReferencePolicy reference(policy.model().parameters(), stream);
      testing::LoadTensors load(saved);
      reference.visit_state(load);
      reference.run([&] { FATHOM_CHECK(values_of(policy) == want, "not what was saved"); });
    });
  }
}

}  // namespace fathom::rl
