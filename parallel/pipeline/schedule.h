#pragma once

#include <compare>
#include <string>
#include <vector>

namespace fathom::parallel {

// A pipeline schedule is plain data: per pipeline rank a list of actions, made by a pure function,
// validated, printed, simulated for time and peak memory, and carried out by one executor. It knows
// no tensor, communicator or device.
enum class ActionKind {
  kForward,
  kBackward,  // input part and weight part at once
  kBackwardInput,
  kBackwardWeight,
  kSendForward,   // output of `stage` to the rank of stage + 1
  kRecvForward,   // input of `stage` from the rank of stage - 1
  kSendBackward,  // gradient of the input of `stage` to the rank of stage - 1
  kRecvBackward   // gradient of the output of `stage` from the rank of stage + 1
};

struct Action {
  ActionKind kind = ActionKind::kForward;
  int stage = 0;  // global index; interleaving gives a rank several
  int micro_batch = 0;
  int pipe = 0;  // 1: the reverse direction of a bidirectional schedule
  auto operator<=>(const Action&) const = default;
};

struct Schedule {
  int num_stages = 0;
  int num_micro_batches = 0;
  std::vector<std::vector<int>> rank_of_stage;  // [pipe][stage]
  std::vector<std::vector<Action>> actions;     // [rank], in program order
};

// 1F1B (PipeDream-flush; arXiv:2104.04473, fig. 4 top): rank r holds stage r.
Schedule one_forward_one_backward(int num_ranks, int num_micro_batches);
// Interleaved 1F1B (arXiv:2104.04473, fig. 4 bottom): rank r holds stages r, r + num_ranks, ...;
// needs num_micro_batches to be a multiple of num_ranks when stages_per_rank > 1. ConfigError
// otherwise.
Schedule interleaved_one_forward_one_backward(int num_ranks, int stages_per_rank,
                                              int num_micro_batches);

// Forwards alone, for evaluation and sampling, in the order of interleaved 1F1B; any number of
// micro-batches.
Schedule forward_only(int num_ranks, int stages_per_rank, int num_micro_batches);

// Throws ConfigError naming rank, position and action when an action is missing, doubled, on a rank
// that does not hold its stage, or before what it depends on on its own rank. A schedule without
// any backward is complete with its forwards. Communication, when there is any, must be whole: both
// ends of every message, and in one order for each pair of ranks.
void validate(const Schedule& schedule);
// Inserts sends right after what they send is made and receives right before what needs it.
Schedule add_communication(const Schedule& compute);

struct Costs {
  double forward = 1.0;
  double backward_input = 1.0;
  double backward_weight = 1.0;       // kBackward costs the sum of both
  std::vector<double> of_stage = {};  // multiplies these, by stage; empty: 1
};
struct Simulation {
  double makespan = 0.0;
  double bubble = 0.0;                  // largest idle time of a rank
  double busy_share = 0.0;              // of all ranks' time, makespan x ranks
  std::vector<int> peak_micro_batches;  // per rank: most forwards whose backward is not done yet
};
// Plays the schedule (with or without communication actions; sends cost nothing). ConfigError
// "deadlocks: rank 0 at F0.0 ..." when it cannot end.
Simulation simulate(const Schedule& schedule, const Costs& costs);

// What the executor takes: validated, with its communication, and known to end. Throws ConfigError.
Schedule make_executable(const Schedule& compute);

// "F0.1" = forward of stage 0, micro-batch 1; one line a rank.
std::string to_string(const Action& action);
std::string to_string(const Schedule& schedule);

}  // namespace fathom::parallel
