#include <map>
#include <set>
#include <utility>

#include "core/error.h"
#include "parallel/pipeline/message.h"
#include "parallel/pipeline/schedule.h"

namespace fathom::parallel {
namespace {

// The messages of one ordered pair of ranks, in the order in which they are sent.
struct Channel {
  std::vector<Action> receives;
  std::size_t num_received = 0;
};
using Channels = std::map<std::pair<int, int>, Channel>;

Channels channels_of(const Schedule& compute) {
  Channels channels;
  for (std::size_t rank = 0; rank < compute.actions.size(); ++rank) {
    for (const Action& action : compute.actions[rank]) {
      if (!is_compute(action.kind)) {
        throw ConfigError(concat("add_communication: the schedule already has ", to_string(action),
                                 " on rank ", rank));
      }
      if (const auto send = send_after(compute, action)) {
        channels[{static_cast<int>(rank), peer_of(compute, *send)}].receives.push_back(
            receive_of(*send));
      }
    }
  }
  return channels;
}

// Messages of a pair of ranks are matched in order, so everything that was sent before `needed` is
// received before it, too. That never waits longer: the sender was past all of it.
void receive_up_to(const Action& needed, Channel& channel, std::set<Action>& received,
                   std::vector<Action>& actions) {
  while (!received.contains(needed)) {
    FATHOM_CHECK(channel.num_received < channel.receives.size(), to_string(needed),
                 " is never sent");
    const Action& next = channel.receives[channel.num_received++];
    received.insert(next);
    actions.push_back(next);
  }
}

}  // namespace

Schedule add_communication(const Schedule& compute) {
  validate(compute);
  Channels channels = channels_of(compute);
  Schedule schedule = compute;
  for (std::size_t rank = 0; rank < compute.actions.size(); ++rank) {
    std::vector<Action> actions;
    std::set<Action> received;
    for (const Action& action : compute.actions[rank]) {
      if (const auto receive = receive_before(compute, action)) {
        const int from = peer_of(compute, *receive);
        receive_up_to(*receive, channels[{from, static_cast<int>(rank)}], received, actions);
      }
      actions.push_back(action);
      if (const auto send = send_after(compute, action)) {
        actions.push_back(*send);
      }
    }
    schedule.actions[rank] = std::move(actions);
  }
  return schedule;
}

}  // namespace fathom::parallel
