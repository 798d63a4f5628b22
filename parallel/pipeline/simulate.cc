#include <algorithm>
#include <map>
#include <optional>

#include "core/error.h"
#include "parallel/pipeline/message.h"
#include "parallel/pipeline/schedule.h"

namespace fathom::parallel {
namespace {

double cost_of(ActionKind kind, const Costs& costs) {
  switch (kind) {
    case ActionKind::kForward:
      return costs.forward;
    case ActionKind::kBackward:
      return costs.backward_input + costs.backward_weight;
    case ActionKind::kBackwardInput:
      return costs.backward_input;
    case ActionKind::kBackwardWeight:
      return costs.backward_weight;
    default:
      return 0.0;
  }
}

double cost_of(const Action& action, const Costs& costs) {
  const double of_stage =
      costs.of_stage.empty() ? 1.0 : costs.of_stage[static_cast<std::size_t>(action.stage)];
  return of_stage * cost_of(action.kind, costs);
}

// Plays all ranks at once: each goes on as far as what it waits for has been done.
class Player {
 public:
  Player(const Schedule& schedule, const Costs& costs)
      : schedule_(schedule),
        costs_(costs),
        has_communication_(std::any_of(schedule.actions.begin(), schedule.actions.end(),
                                       [](const auto& actions) {
                                         return std::any_of(
                                             actions.begin(), actions.end(),
                                             [](const Action& a) { return !is_compute(a.kind); });
                                       })),
        ranks_(schedule.actions.size()) {}

  Simulation run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
        while (play_next(rank)) {
          moved = true;
        }
      }
    }
    check_ended();
    Simulation result;
    for (const RankState& state : ranks_) {
      result.makespan = std::max(result.makespan, state.time);
      result.peak_micro_batches.push_back(state.peak_in_flight);
    }
    double busy = 0.0;
    for (const RankState& state : ranks_) {
      result.bubble = std::max(result.bubble, result.makespan - state.busy);
      busy += state.busy;
    }
    result.busy_share =
        result.makespan > 0 ? busy / (result.makespan * static_cast<double>(ranks_.size())) : 0.0;
    return result;
  }

 private:
  struct RankState {
    std::size_t next = 0;
    double time = 0.0, busy = 0.0;
    int in_flight = 0, peak_in_flight = 0;
  };

  // The action, on this rank or another, that must be done before `action` may start; beyond
  // program order.
  std::optional<Action> awaited_by(const Action& action) const {
    if (is_receive(action.kind)) {
      return send_of(action);
    }
    if (!is_compute(action.kind) || action.kind == ActionKind::kBackwardWeight) {
      return std::nullopt;
    }
    if (has_communication_ && receive_before(schedule_, action)) {
      return receive_before(schedule_, action);
    }
    Action before = action;
    if (action.kind == ActionKind::kForward) {
      before.stage -= 1;
      return before.stage >= 0 ? std::optional(before) : std::nullopt;
    }
    before.stage += 1;
    if (before.stage < schedule_.num_stages) {
      // Either way of writing a backward passes the gradient on; the peer may use the other one.
      Action other_kind = before;
      other_kind.kind =
          action.kind == ActionKind::kBackward ? ActionKind::kBackwardInput : ActionKind::kBackward;
      return done_at_.contains(other_kind) ? other_kind : before;
    }
    before.stage = action.stage;
    before.kind = ActionKind::kForward;
    return before;
  }

  bool play_next(std::size_t rank) {
    RankState& state = ranks_[rank];
    const std::vector<Action>& actions = schedule_.actions[rank];
    if (state.next == actions.size()) {
      return false;
    }
    const Action& action = actions[state.next];
    if (const auto awaited = awaited_by(action)) {
      const auto found = done_at_.find(*awaited);
      if (found == done_at_.end()) {
        return false;
      }
      state.time = std::max(state.time, found->second);
    }
    const double cost = cost_of(action, costs_);
    state.time += cost;
    state.busy += cost;
    done_at_[action] = state.time;
    count_in_flight(action, state);
    ++state.next;
    return true;
  }

  static void count_in_flight(const Action& action, RankState& state) {
    if (action.kind == ActionKind::kForward) {
      state.peak_in_flight = std::max(state.peak_in_flight, ++state.in_flight);
    } else if (action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardWeight) {
      --state.in_flight;  // the weight part is the last to need what the forward saved
    }
  }

  void check_ended() const {
    std::string stuck;
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
      if (ranks_[rank].next < schedule_.actions[rank].size()) {
        const Action& action = schedule_.actions[rank][ranks_[rank].next];
        const auto awaited = awaited_by(action);
        stuck += concat(stuck.empty() ? "" : ", ", "rank ", rank, " at ", to_string(action),
                        " waits for ", awaited ? to_string(*awaited) : "nothing");
      }
    }
    if (!stuck.empty()) {
      throw ConfigError(concat("schedule deadlocks: ", stuck));
    }
  }

  const Schedule& schedule_;
  const Costs& costs_;
  const bool has_communication_;
  std::vector<RankState> ranks_;
  std::map<Action, double> done_at_;
};

}  // namespace

Simulation simulate(const Schedule& schedule, const Costs& costs) {
  return Player(schedule, costs).run();
}

}  // namespace fathom::parallel
