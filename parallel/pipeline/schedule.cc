#include "parallel/pipeline/schedule.h"

#include <map>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "parallel/pipeline/message.h"

namespace fathom::parallel {
namespace {

std::string_view letter_of(ActionKind kind) {
  switch (kind) {
    case ActionKind::kForward:
      return "F";
    case ActionKind::kBackward:
      return "B";
    case ActionKind::kBackwardInput:
      return "I";
    case ActionKind::kBackwardWeight:
      return "W";
    case ActionKind::kSendForward:
      return "send_F";
    case ActionKind::kRecvForward:
      return "recv_F";
    case ActionKind::kSendBackward:
      return "send_B";
    case ActionKind::kRecvBackward:
      return "recv_B";
  }
  return "?";
}

struct Place {
  int rank = 0;
  int position = 0;
};

// Checks one schedule; holds where each of its actions is.
class Validator {
 public:
  explicit Validator(const Schedule& schedule) : schedule_(schedule) {}

  void run() {
    check_stages();
    collect_actions();
    check_complete();
    for_each_action([this](const Action& action, Place place) { check_order(action, place); });
    if (has_communication_) {
      check_channels();
    }
  }

 private:
  template <class Visit>
  void for_each_action(Visit visit) const {
    for (std::size_t rank = 0; rank < schedule_.actions.size(); ++rank) {
      for (std::size_t i = 0; i < schedule_.actions[rank].size(); ++i) {
        visit(schedule_.actions[rank][i],
              Place{.rank = static_cast<int>(rank), .position = static_cast<int>(i)});
      }
    }
  }

  [[noreturn]] static void fail(Place place, const Action& action, const std::string& why) {
    throw ConfigError(
        concat("schedule: ", describe_place(place.rank, place.position, action), " ", why));
  }

  void check_stages() const {
    const auto num_ranks = static_cast<int>(schedule_.actions.size());
    if (schedule_.num_stages < 1 || schedule_.num_micro_batches < 1 || num_ranks < 1 ||
        schedule_.rank_of_stage.empty()) {
      throw ConfigError(concat("schedule: ", schedule_.num_stages, " stages, ",
                               schedule_.num_micro_batches, " micro-batches, ", num_ranks,
                               " ranks, ", schedule_.rank_of_stage.size(),
                               " pipes; each must be at least 1"));
    }
    for (const std::vector<int>& ranks : schedule_.rank_of_stage) {
      if (static_cast<int>(ranks.size()) != schedule_.num_stages) {
        throw ConfigError(concat("schedule: ranks given for ", ranks.size(), " of ",
                                 schedule_.num_stages, " stages"));
      }
      for (std::size_t stage = 0; stage < ranks.size(); ++stage) {
        if (ranks[stage] < 0 || ranks[stage] >= num_ranks) {
          throw ConfigError(
              concat("schedule: stage ", stage, " is on rank ", ranks[stage], " of ", num_ranks));
        }
      }
    }
  }

  void check_range(const Action& action, Place place) const {
    if (action.pipe < 0 || action.pipe >= static_cast<int>(schedule_.rank_of_stage.size())) {
      fail(place, action,
           concat("names pipe ", action.pipe, " of ", schedule_.rank_of_stage.size()));
    }
    if (action.stage < 0 || action.stage >= schedule_.num_stages) {
      fail(place, action, concat("names stage ", action.stage, " of ", schedule_.num_stages));
    }
    if (action.micro_batch < 0 || action.micro_batch >= schedule_.num_micro_batches) {
      fail(place, action,
           concat("names micro-batch ", action.micro_batch, " of ", schedule_.num_micro_batches));
    }
    if (rank_of(schedule_, action) != place.rank) {
      fail(place, action,
           concat("belongs to rank ", rank_of(schedule_, action), ", which holds its stage"));
    }
  }

  void collect_actions() {
    for_each_action([this](const Action& action, Place place) {
      check_range(action, place);
      has_communication_ = has_communication_ || !is_compute(action.kind);
      has_backward_ =
          has_backward_ || (is_compute(action.kind) && action.kind != ActionKind::kForward);
      const auto [first, is_new] = places_.emplace(action, place);
      if (!is_new) {
        fail(place, action,
             concat("is doubled: it is at position ", first->second.position, " already"));
      }
    });
  }

  bool has(const Action& action) const { return places_.contains(action); }

  void check_complete() const {
    for (std::size_t pipe = 0; pipe < schedule_.rank_of_stage.size(); ++pipe) {
      for (int stage = 0; stage < schedule_.num_stages; ++stage) {
        for (int micro_batch = 0; micro_batch < schedule_.num_micro_batches; ++micro_batch) {
          check_complete({.kind = ActionKind::kForward,
                          .stage = stage,
                          .micro_batch = micro_batch,
                          .pipe = static_cast<int>(pipe)});
        }
      }
    }
  }

  void check_complete(Action action) const {
    require(action);
    if (!has_backward_) {
      return;
    }
    action.kind = ActionKind::kBackwardInput;
    const bool in_two_parts = has(action);
    action.kind = ActionKind::kBackwardWeight;
    const bool has_weight_part = has(action);
    action.kind = ActionKind::kBackward;
    if (has(action) && (in_two_parts || has_weight_part)) {
      fail(places_.at(action), action, "is there whole and in parts");
    }
    if (!in_two_parts && !has_weight_part) {
      require(action);
      return;
    }
    action.kind = in_two_parts ? ActionKind::kBackwardWeight : ActionKind::kBackwardInput;
    require(action);
  }

  void require(const Action& action) const {
    if (!has(action)) {
      throw ConfigError(
          concat("schedule: rank ", rank_of(schedule_, action), " lacks ", to_string(action)));
    }
  }

  // `earlier` must stand before `action` on the same rank.
  void require_before(const Action& earlier, const Action& action, Place place) const {
    const auto found = places_.find(earlier);
    if (found == places_.end()) {
      fail(place, action, concat("needs ", to_string(earlier), ", which its rank lacks"));
    }
    if (found->second.position > place.position) {
      fail(place, action,
           concat("comes before ", to_string(earlier), ", which it needs, at position ",
                  found->second.position));
    }
  }

  Action backward_of(const Action& action, int stage) const {
    Action backward{.kind = ActionKind::kBackward,
                    .stage = stage,
                    .micro_batch = action.micro_batch,
                    .pipe = action.pipe};
    if (!has(backward)) {
      backward.kind = ActionKind::kBackwardInput;
    }
    return backward;
  }

  void check_order(const Action& action, Place place) const {
    Action forward{.kind = ActionKind::kForward,
                   .stage = action.stage,
                   .micro_batch = action.micro_batch,
                   .pipe = action.pipe};
    switch (action.kind) {
      case ActionKind::kForward:
        forward.stage -= 1;
        check_input(forward, action, place);
        break;
      case ActionKind::kBackward:
      case ActionKind::kBackwardInput:
        require_before(forward, action, place);
        check_input(backward_of(action, action.stage + 1), action, place);
        break;
      case ActionKind::kBackwardWeight:
        require_before(backward_of(action, action.stage), action, place);
        break;
      case ActionKind::kSendForward:
      case ActionKind::kSendBackward: {
        const bool is_forward = action.kind == ActionKind::kSendForward;
        const Action source = is_forward ? forward : backward_of(action, action.stage);
        if (send_after(schedule_, source) == std::nullopt) {
          fail(place, action, "has no other rank to go to");
        }
        require_before(source, action, place);
        break;
      }
      case ActionKind::kRecvForward:
      case ActionKind::kRecvBackward:
        check_receive(action, place);
        break;
    }
  }

  // `producer` makes what the compute `action` takes in, on this rank or on another one.
  void check_input(const Action& producer, const Action& action, Place place) const {
    const auto receive = receive_before(schedule_, action);
    if (receive && has_communication_) {
      require_before(*receive, action, place);
    }
    if (!receive && producer.stage >= 0 && producer.stage < schedule_.num_stages) {
      require_before(producer, action, place);
    }
    const auto send = send_after(schedule_, action);
    if (send && has_communication_ && !has(*send)) {
      fail(place, action, concat("is not followed by ", to_string(*send)));
    }
  }

  void check_receive(const Action& action, Place place) const {
    const int from_stage =
        action.kind == ActionKind::kRecvForward ? action.stage - 1 : action.stage + 1;
    if (from_stage < 0 || from_stage >= schedule_.num_stages ||
        peer_of(schedule_, action) == place.rank) {
      fail(place, action, "has no other rank to come from");
    }
    if (!has(send_of(action))) {
      fail(place, action,
           concat("waits for ", to_string(send_of(action)), ", which rank ",
                  peer_of(schedule_, action), " lacks"));
    }
  }

  // Both ends of a pair of ranks must take its messages in one order.
  void check_channels() const {
    std::map<std::pair<int, int>, std::vector<Action>> sent;
    for_each_action([&](const Action& action, Place place) {
      if (is_send(action.kind)) {
        sent[{place.rank, peer_of(schedule_, action)}].push_back(action);
      }
    });
    std::map<std::pair<int, int>, std::size_t> num_received;
    for_each_action([&](const Action& action, Place place) {
      if (is_receive(action.kind)) {
        const std::pair<int, int> channel{peer_of(schedule_, action), place.rank};
        Action next = sent[channel].at(num_received[channel]++);
        if (receive_of(next) != action) {
          fail(place, action,
               concat("receives out of order: rank ", channel.first, " sends it ", to_string(next),
                      " next"));
        }
      }
    });
  }

  const Schedule& schedule_;
  std::map<Action, Place> places_;
  bool has_communication_ = false;
  bool has_backward_ = false;
};

}  // namespace

void validate(const Schedule& schedule) { Validator(schedule).run(); }

Schedule make_executable(const Schedule& compute) {
  validate(compute);
  Schedule schedule = add_communication(compute);
  simulate(schedule, Costs{});  // refuses one that cannot end
  return schedule;
}

std::string to_string(const Action& action) {
  return concat(letter_of(action.kind), action.stage, ".", action.micro_batch,
                action.pipe == 0 ? "" : "'");
}

std::string to_string(const Schedule& schedule) {
  std::string text;
  for (std::size_t rank = 0; rank < schedule.actions.size(); ++rank) {
    text += concat("rank ", rank, ":");
    for (const Action& action : schedule.actions[rank]) {
      text += concat(" ", to_string(action));
    }
    text += "\n";
  }
  return text;
}

}  // namespace fathom::parallel
