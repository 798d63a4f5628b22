// Gradients leave while the backward pass goes on, and the forward pass begins while values are
// still under way: what each rank started and waited for, in its order.
#include <algorithm>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/recording_communicator.h"
#include "tests/support/small_training.h"

using namespace fathom;
using namespace fathom::testing;

namespace {

// By rank.
std::vector<CommunicationLog> record(const Layout& layout, int num_steps) {
  std::vector<CommunicationLog> logs(static_cast<std::size_t>(layout.mesh.world_size()));
  SmallTraining how;
  how.num_steps = num_steps;
  how.wrap = [&](parallel::Communicator& world) {
    return record_communication(world, logs[static_cast<std::size_t>(world.rank())]);
  };
  train(small_options(), layout, how);
  return logs;
}

bool is_of_parameters(const Communication& one) {
  return one.group == "data" || one.group == "plane" || one.group == "expert_data" ||
         one.group == "shared_embedding";
}

bool is_start(const Communication& one, const char* operation) {
  return is_of_parameters(one) && one.operation == operation && !one.is_wait;
}

// How often the reductions of gradients are interrupted by work of the tensor axis, which every
// layer does in its backward.
int num_runs_of_reductions(const CommunicationLog& log) {
  int num_runs = 0;
  bool is_in_run = false;
  for (const Communication& one : log) {
    if (is_start(one, "reduce_scatter")) {
      num_runs += is_in_run ? 0 : 1;
      is_in_run = true;
    } else if (one.group == "tensor") {
      is_in_run = false;
    }
  }
  return num_runs;
}

Layout with_groups(Layout layout, std::int64_t elements) {
  layout.pipeline.group_elements = elements;
  return layout;
}

}  // namespace

TEST_CASE("The gradients of a layer leave before the backward of the layer below begins") {
  const Layout layout = with_groups({{1, 2, 2, 1}, {}, 2, {}}, 1);
  const CommunicationLog log = record(layout, 1)[0];
  // MTP with the head and the final norm, four layers, embedding.
  CHECK(num_runs_of_reductions(log) == 1 + 4 + 1);
  // Nothing is waited for before the last has left.
  const auto first_wait = std::ranges::find_if(log, [](const Communication& one) {
    return is_of_parameters(one) && one.operation == "reduce_scatter" && one.is_wait;
  });
  REQUIRE(first_wait != log.end());
  CHECK(std::none_of(first_wait, log.end(),
                     [](const auto& one) { return is_start(one, "reduce_scatter"); }));
}

TEST_CASE("Only the last micro-batch lets gradients go") {
  const Layout layout = with_groups({{1, 2, 2, 1}, {}, 1, {}}, 1);  // four micro-batches
  const CommunicationLog log = record(layout, 1)[0];
  CHECK(num_runs_of_reductions(log) == 1 + 4 + 1);
}

TEST_CASE("The forward pass begins while values are under way") {
  const Layout layout = with_groups({{1, 2, 2, 1}, {}, 4, {}}, 1);
  const CommunicationLog log = record(layout, 2)[0];
  const auto first = std::ranges::find_if(
      log, [](const Communication& one) { return is_start(one, "reduce_scatter"); });
  // Values drawn at the start, then those of the first step.
  const auto gather = std::find_if(
      first, log.end(), [](const Communication& one) { return is_start(one, "all_gather"); });
  REQUIRE(gather != log.end());
  int num_started = 0;
  int num_arrived = 0;
  int num_arrived_before_forward = -1;
  int num_runs = 0;
  bool was_wait = false;
  for (auto one = gather; one != log.end() && !is_start(*one, "reduce_scatter"); ++one) {
    const bool is_wait = is_of_parameters(*one) && one->operation == "all_gather" && one->is_wait;
    num_started += is_start(*one, "all_gather") ? 1 : 0;
    num_arrived += is_wait ? 1 : 0;
    num_runs += is_wait && !was_wait ? 1 : 0;
    was_wait = is_wait;
    if (one->group == "tensor" && num_arrived_before_forward < 0) {
      num_arrived_before_forward = num_arrived;
    }
  }
  CHECK(num_started > 20);
  CHECK(num_arrived == num_started);
  CHECK(num_arrived_before_forward == 1);  // the embedding
  CHECK(num_runs >= 1 + 4 + 1);            // each layer waits for its own
}

TEST_CASE("All replicas start their groups in the same order") {
  const auto layout =
      GENERATE(Layout{{2, 2, 1, 2}, {}, 1, {}}, Layout{{2, 2, 1, 1}, {2, {}}, 1, {}},
               Layout{{2, 2, 2, 2}, {2, {}}, 1, {}}, Layout{{1, 4, 1, 2}, {}, 1, {}});
  INFO(testing::to_string(layout));
  const std::vector<CommunicationLog> logs = record(with_groups(layout, 1), 2);
  const auto starts = [&](int rank, const std::string& group) {
    CommunicationLog found = logs[static_cast<std::size_t>(rank)];
    std::erase_if(found, [&](const Communication& one) {
      return one.is_wait || one.group != group || !is_of_parameters(one);
    });
    return found;
  };
  for (int rank = 0; rank < layout.mesh.world_size(); ++rank) {
    const parallel::MeshGroups groups = parallel::groups_of(rank, layout.mesh);
    for (const auto& [name, members] :
         {std::pair{"data", groups.data}, std::pair{"plane", groups.plane},
          std::pair{"expert_data", groups.expert_data},
          std::pair{"shared_embedding", groups.shared_embedding}}) {
      for (const int member : members) {
        CHECK(starts(rank, name) == starts(member, name));
      }
    }
  }
  CHECK(starts(0, "data").size() > 10);
  if (layout.mesh.pipeline > 1) {  // held by the first and the last: after all others
    for (const int rank : {0, layout.mesh.world_size() - 1}) {
      CommunicationLog reductions = logs[static_cast<std::size_t>(rank)];
      std::erase_if(reductions, [](const auto& one) { return !is_start(one, "reduce_scatter"); });
      REQUIRE(!reductions.empty());
      CHECK(reductions.back().group == "shared_embedding");
    }
  }
}
