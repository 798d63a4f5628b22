#include "parallel/pipeline/schedule.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/contains.h"

using namespace fathom;
using namespace fathom::parallel;
using test::contains;

namespace {

Action action(ActionKind kind, int stage, int micro_batch) {
  return {.kind = kind, .stage = stage, .micro_batch = micro_batch};
}

template <class Call>
std::string config_error_of(Call call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.message();
  }
  return "no error";
}

// 1 rank does both stages; small enough to break by hand.
Schedule two_ranks() { return one_forward_one_backward(2, 2); }

}  // namespace

TEST_CASE("1F1B is the published table for four ranks and five micro-batches") {
  const Schedule schedule = one_forward_one_backward(4, 5);
  CHECK(to_string(schedule) ==
        "rank 0: F0.0 F0.1 F0.2 F0.3 B0.0 F0.4 B0.1 B0.2 B0.3 B0.4\n"
        "rank 1: F1.0 F1.1 F1.2 B1.0 F1.3 B1.1 F1.4 B1.2 B1.3 B1.4\n"
        "rank 2: F2.0 F2.1 B2.0 F2.2 B2.1 F2.3 B2.2 F2.4 B2.3 B2.4\n"
        "rank 3: F3.0 B3.0 F3.1 B3.1 F3.2 B3.2 F3.3 B3.3 F3.4 B3.4\n");
}

TEST_CASE("interleaved 1F1B is Megatron's order for two ranks of two stages") {
  const Schedule schedule = interleaved_one_forward_one_backward(2, 2, 4);
  CHECK(to_string(schedule) ==
        "rank 0: F0.0 F0.1 F2.0 F2.1 F0.2 B2.0 F0.3 B2.1 F2.2 B0.0 F2.3 B0.1 B2.2 B2.3 B0.2 B0.3\n"
        "rank 1: F1.0 F1.1 F3.0 B3.0 F3.1 B3.1 F1.2 B1.0 F1.3 B1.1 F3.2 B3.2 F3.3 B3.3 B1.2 "
        "B1.3\n");
}

TEST_CASE("1F1B idles (PP - 1)(F + B) and holds min(PP - rank, micro-batches)") {
  const Costs costs{.forward = 1.25, .backward_input = 1.5, .backward_weight = 1.0};
  for (const int num_ranks : {1, 2, 3, 4, 8}) {
    for (const int num_micro_batches : {1, 2, 3, 5, 8, 13, 32}) {
      const Schedule compute = one_forward_one_backward(num_ranks, num_micro_batches);
      for (const Schedule& schedule : {compute, add_communication(compute)}) {
        validate(schedule);
        const Simulation simulation = simulate(schedule, costs);
        CHECK(simulation.bubble == (num_ranks - 1) * 3.75);
        CHECK(simulation.makespan == (num_ranks - 1 + num_micro_batches) * 3.75);
        for (int rank = 0; rank < num_ranks; ++rank) {
          CHECK(simulation.peak_micro_batches[static_cast<std::size_t>(rank)] ==
                std::min(num_ranks - rank, num_micro_batches));
        }
      }
    }
  }
}

TEST_CASE("interleaved 1F1B idles (PP - 1)(F + B) / v and holds PP v + PP - 1 stages at most") {
  const Costs costs{.forward = 1.0, .backward_input = 1.0, .backward_weight = 1.0};
  for (const int num_ranks : {1, 2, 3, 4, 8}) {
    for (const int stages_per_rank : {2, 3, 4}) {
      for (const int num_groups : {1, 2, 3, 5}) {
        const int num_micro_batches = num_groups * num_ranks;
        const Schedule compute =
            interleaved_one_forward_one_backward(num_ranks, stages_per_rank, num_micro_batches);
        for (const Schedule& schedule : {compute, add_communication(compute)}) {
          validate(schedule);
          const Simulation simulation = simulate(schedule, costs);
          // In units of a stage: F and B of a rank are v stages each.
          CHECK(simulation.bubble == (num_ranks - 1) * 3.0);
          CHECK(simulation.makespan == (num_ranks - 1 + num_micro_batches * stages_per_rank) * 3.0);
          for (int rank = 0; rank < num_ranks; ++rank) {
            const int num_forwards = num_micro_batches * stages_per_rank;
            const int warm_up = 2 * (num_ranks - 1 - rank) + (stages_per_rank - 1) * num_ranks;
            CHECK(simulation.peak_micro_batches[static_cast<std::size_t>(rank)] ==
                  std::min(warm_up + 1, num_forwards));
          }
        }
      }
    }
  }
}

TEST_CASE("interleaved 1F1B refuses micro-batches that are no multiple of the ranks") {
  CHECK(contains(config_error_of([] { return interleaved_one_forward_one_backward(4, 2, 6); }),
                 "micro-batches (6) is not a multiple of the pipeline ranks (4)"));
  CHECK(to_string(interleaved_one_forward_one_backward(4, 1, 6)) ==
        to_string(one_forward_one_backward(4, 6)));
}

TEST_CASE("communication is added where stages of different ranks meet, and only there") {
  CHECK(to_string(add_communication(two_ranks())) ==
        "rank 0: F0.0 send_F0.0 F0.1 send_F0.1 recv_B0.0 B0.0 recv_B0.1 B0.1\n"
        "rank 1: recv_F1.0 F1.0 B1.0 send_B1.0 recv_F1.1 F1.1 B1.1 send_B1.1\n");
  const Schedule alone = interleaved_one_forward_one_backward(1, 3, 2);
  CHECK(to_string(add_communication(alone)) == to_string(alone));
}

TEST_CASE("validate names rank, position and action of what is wrong") {
  Schedule schedule = two_ranks();
  SECTION("missing") {
    schedule.actions[1].pop_back();
    CHECK(contains(config_error_of([&] { validate(schedule); }), "rank 1 lacks B1.1"));
  }
  SECTION("doubled") {
    schedule.actions[0].push_back(schedule.actions[0][1]);
    CHECK(contains(config_error_of([&] { validate(schedule); }),
                   "rank 0, position 4 (F0.1) is doubled: it is at position 1 already"));
  }
  SECTION("on a rank without the stage") {
    schedule.actions[0][0].stage = 1;
    CHECK(contains(config_error_of([&] { validate(schedule); }),
                   "rank 0, position 0 (F1.0) belongs to rank 1"));
  }
  SECTION("backward before forward") {
    std::swap(schedule.actions[1][0], schedule.actions[1][1]);
    CHECK(contains(config_error_of([&] { validate(schedule); }),
                   "rank 1, position 0 (B1.0) comes before F1.0"));
  }
  SECTION("weight part before input part") {
    schedule.actions[1] = {action(ActionKind::kForward, 1, 0), action(ActionKind::kForward, 1, 1),
                           action(ActionKind::kBackward, 1, 0),
                           action(ActionKind::kBackwardWeight, 1, 1),
                           action(ActionKind::kBackwardInput, 1, 1)};
    CHECK(contains(config_error_of([&] { validate(schedule); }),
                   "rank 1, position 3 (W1.1) comes before I1.1"));
    std::swap(schedule.actions[1][3], schedule.actions[1][4]);
    CHECK_NOTHROW(validate(schedule));
  }
  SECTION("neighbouring stages of one rank in the wrong order") {
    Schedule one_rank = interleaved_one_forward_one_backward(1, 2, 1);
    std::swap(one_rank.actions[0][0], one_rank.actions[0][1]);
    CHECK(contains(config_error_of([&] { validate(one_rank); }),
                   "rank 0, position 0 (F1.0) comes before F0.0"));
  }
  SECTION("no such stage or micro-batch") {
    schedule.actions[0][0].stage = 7;
    CHECK(contains(config_error_of([&] { validate(schedule); }), "names stage 7 of 2"));
    schedule.actions[0][0] = action(ActionKind::kForward, 0, -1);
    CHECK(contains(config_error_of([&] { validate(schedule); }), "names micro-batch -1 of 2"));
  }
}

TEST_CASE("validate checks both ends of every message") {
  Schedule schedule = add_communication(two_ranks());
  // rank 0: F0.0 send_F0.0 F0.1 send_F0.1 recv_B0.0 B0.0 recv_B0.1 B0.1
  SECTION("a receive without its send") {
    schedule.actions[0].erase(schedule.actions[0].begin() + 1);
    CHECK(config_error_of([&] { validate(schedule); }) != "no error");
  }
  SECTION("a send without its receive") {
    schedule.actions[0].erase(schedule.actions[0].begin() + 4);
    CHECK(contains(config_error_of([&] { validate(schedule); }), "(B0.0) needs recv_B0.0"));
  }
  SECTION("sends in another order than the receives") {
    std::swap(schedule.actions[0][1], schedule.actions[0][3]);
    std::swap(schedule.actions[0][1], schedule.actions[0][2]);
    CHECK(contains(config_error_of([&] { validate(schedule); }), "receives out of order"));
  }
  SECTION("a message at the end of the pipeline") {
    schedule.actions[1].push_back(action(ActionKind::kSendForward, 1, 0));
    CHECK(contains(config_error_of([&] { validate(schedule); }), "has no other rank to go to"));
  }
}

TEST_CASE("stages of different costs: the slowest one sets the pace") {
  // Rank 1 works 3 x 6 without a pause, after the first forward of rank 0 and before its last
  // backward.
  const Costs costs{.of_stage = {1.0, 2.0}};
  const Schedule schedule = one_forward_one_backward(2, 3);
  for (const Schedule& played : {schedule, add_communication(schedule)}) {
    const Simulation simulation = simulate(played, costs);
    CHECK(simulation.makespan == 1.0 + 18.0 + 2.0);
    CHECK(simulation.bubble == 21.0 - 9.0);
    CHECK(simulation.busy_share == (9.0 + 18.0) / (2 * 21.0));
  }
  const Costs even{.of_stage = {1.5, 1.5}};
  CHECK(simulate(schedule, even).busy_share == 27.0 / (2 * 18.0));
}

TEST_CASE("simulate names the ranks of a deadlock and what they wait for") {
  // Both ranks are in a legal order on their own, yet each waits for the other.
  Schedule schedule = two_ranks();
  schedule.actions[0] = {action(ActionKind::kForward, 0, 0), action(ActionKind::kBackward, 0, 0),
                         action(ActionKind::kForward, 0, 1), action(ActionKind::kBackward, 0, 1)};
  schedule.actions[1] = {action(ActionKind::kForward, 1, 0), action(ActionKind::kForward, 1, 1),
                         action(ActionKind::kBackward, 1, 0), action(ActionKind::kBackward, 1, 1)};
  validate(schedule);
  const std::string message = config_error_of([&] { simulate(schedule, {}); });
  CHECK(contains(message, "deadlocks: rank 0 at B0.0"));
  CHECK(contains(message, "rank 1 at F1.1 waits for F0.1"));
  CHECK(contains(config_error_of([&] { simulate(add_communication(schedule), {}); }),
                 "deadlocks: rank 0 at recv_B0.0 waits for send_B1.0"));
}

TEST_CASE("a backward split in parts hides the weight part in the bubble") {
  // Two ranks, one micro-batch each way: rank 1 sends the input gradient before its weight part.
  Schedule schedule = one_forward_one_backward(2, 1);
  schedule.actions[1] = {action(ActionKind::kForward, 1, 0),
                         action(ActionKind::kBackwardInput, 1, 0),
                         action(ActionKind::kBackwardWeight, 1, 0)};
  const Schedule with_messages = add_communication(schedule);
  validate(with_messages);
  for (const Schedule& played : {schedule, with_messages}) {
    // F0 F1 I1 B0(2): 5 long; rank 1 works 3.
    const Simulation simulation = simulate(played, {});
    CHECK(simulation.makespan == 5.0);
    CHECK(simulation.bubble == 2.0);
  }
}

TEST_CASE("a bidirectional schedule fills one direction's bubble with the other") {
  // Rank 0 holds stage 0 of pipe 0 and stage 1 of pipe 1, rank 1 the others.
  const auto pass = [](ActionKind kind, int stage, int pipe) {
    return Action{.kind = kind, .stage = stage, .micro_batch = 0, .pipe = pipe};
  };
  Schedule schedule{
      .num_stages = 2, .num_micro_batches = 1, .rank_of_stage = {{0, 1}, {1, 0}}, .actions = {}};
  for (const int rank : {0, 1}) {
    const int other = 1 - rank;
    schedule.actions.push_back(
        {pass(ActionKind::kForward, 0, rank), pass(ActionKind::kForward, 1, other),
         pass(ActionKind::kBackward, 1, other), pass(ActionKind::kBackward, 0, rank)});
  }
  schedule = add_communication(schedule);
  validate(schedule);
  CHECK(to_string(schedule) ==
        "rank 0: F0.0 send_F0.0 recv_F1.0' F1.0' B1.0' send_B1.0' recv_B0.0 B0.0\n"
        "rank 1: F0.0' send_F0.0' recv_F1.0 F1.0 B1.0 send_B1.0 recv_B0.0' B0.0'\n");
  CHECK(simulate(schedule, {}).bubble == 0.0);
  schedule.actions[0][0].pipe = 2;
  CHECK(contains(config_error_of([&] { validate(schedule); }), "names pipe 2 of 2"));
}

TEST_CASE("forwards alone are a schedule for any number of micro-batches") {
  for (const int num_ranks : {1, 2, 3, 4, 8}) {
    for (const int stages_per_rank : {1, 2, 3}) {
      for (const int num_micro_batches : {1, 2, 3, 7, 8}) {
        const Schedule schedule =
            add_communication(forward_only(num_ranks, stages_per_rank, num_micro_batches));
        validate(schedule);
        const double bubble = simulate(schedule, {}).bubble;
        if (num_micro_batches % num_ranks == 0) {
          CHECK(bubble == num_ranks - 1.0);
        }
      }
    }
  }
  Schedule incomplete = forward_only(3, 2, 6);
  incomplete.actions[1].pop_back();
  CHECK(contains(config_error_of([&] { validate(incomplete); }), "rank 1 lacks F4.5"));
}
