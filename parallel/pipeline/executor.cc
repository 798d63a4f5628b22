#include "parallel/pipeline/executor.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "core/error.h"
#include "parallel/pipeline/message.h"

namespace fathom::parallel {
namespace {

constexpr int kNever = std::numeric_limits<int>::max();

// When messages between this rank and its peers happen in the peers' programs. It tells, without
// asking the transport, that a send is over: something that the peer sent after it had used the
// message has arrived.
class PeerPrograms {
 public:
  PeerPrograms(const Schedule& schedule, int rank) {
    for (std::size_t peer = 0; peer < schedule.actions.size(); ++peer) {
      if (static_cast<int>(peer) == rank) {
        continue;
      }
      for (std::size_t i = 0; i < schedule.actions[peer].size(); ++i) {
        note(schedule, rank, schedule.actions[peer][i], static_cast<int>(i));
      }
    }
  }
  int sent_at(const Action& receive) const {
    const auto found = sent_at_.find(receive);
    return found == sent_at_.end() ? -1 : found->second;
  }
  int used_at(const Action& send) const {
    const auto found = used_at_.find(send);
    return found == used_at_.end() ? kNever : found->second;
  }

 private:
  void note(const Schedule& schedule, int rank, const Action& peer_action, int at) {
    if (is_send(peer_action.kind) && peer_of(schedule, peer_action) == rank) {
      sent_at_[receive_of(peer_action)] = at;
    } else if (is_compute(peer_action.kind)) {
      const auto receive = receive_before(schedule, peer_action);
      if (receive && peer_of(schedule, *receive) == rank) {
        used_at_[send_of(*receive)] = at;
      }
    }
  }

  std::map<Action, int> sent_at_, used_at_;
};

class Executor {
 public:
  Executor(const Schedule& schedule, std::span<PipelineStage* const> stages, Communicator& pipeline,
           Stream& stream)
      : schedule_(schedule),
        stages_(stages),
        pipeline_(pipeline),
        stream_(stream),
        actions_(schedule.actions.at(static_cast<std::size_t>(pipeline.rank()))),
        peer_programs_(schedule, pipeline.rank()) {
    FATHOM_CHECK(static_cast<int>(schedule.actions.size()) == pipeline.world_size(),
                 schedule.actions.size(), " ranks in the schedule, ", pipeline.world_size(),
                 " in the group");
    FATHOM_CHECK(static_cast<int>(stages.size()) == schedule.num_stages, stages.size(), " of ",
                 schedule.num_stages, " stages");
  }

  void run() {
    pipeline_.connect(peers());
    for (std::size_t i = 0; i < actions_.size(); ++i) {
      try {
        carry_out(i);
      } catch (Error& error) {
        error.add_context(concat(describe_place(pipeline_.rank(), static_cast<int>(i), actions_[i]),
                                 " of the pipeline"));
        throw;
      }
    }
    for (PendingSend& send : sends_) {
      send.work.wait();
    }
    sends_.clear();
    FATHOM_CHECK(ready_.empty() && receives_.empty(), ready_.size() + receives_.size(),
                 " tensors were made or received and never used");
  }

 private:
  struct PendingSend {
    int to = 0;
    int used_at = kNever;  // position in the receiver's program
    Work work;
  };
  struct PendingReceive {
    Tensor tensor;
    Work work;
  };

  // The ranks that this one exchanges messages with.
  std::vector<int> peers() const {
    std::set<int> found;
    for (const Action& action : actions_) {
      if (is_send(action.kind) || is_receive(action.kind)) {
        found.insert(peer_of(schedule_, action));
      }
    }
    return {found.begin(), found.end()};
  }

  PipelineStage& stage_of(const Action& action) const {
    PipelineStage* stage = stages_[static_cast<std::size_t>(action.stage)];
    FATHOM_CHECK(stage != nullptr, "stage ", action.stage, " is not on rank ", pipeline_.rank());
    return *stage;
  }

  void carry_out(std::size_t position) {
    const Action& action = actions_[position];
    if (is_send(action.kind)) {
      send(action);
      return;
    }
    // The receives behind a computation are posted before it, so that what is under way arrives
    // meanwhile. A transport must therefore let a send pass a receive that still waits.
    post_receives(position);
    if (is_compute(action.kind)) {
      compute(action);
    }
  }

  void post_receives(std::size_t position) {
    std::size_t end = std::max(num_posted_, position);
    for (; end < actions_.size() && (end == position || !is_compute(actions_[end].kind)); ++end) {
      if (is_receive(actions_[end].kind)) {
        post_receive(actions_[end]);
      }
    }
    num_posted_ = end;
  }

  void post_receive(const Action& receive) {
    PendingReceive& pending = receives_[receive];
    const PipelineStage& stage = stage_of(receive);
    pending.tensor =
        Tensor::empty(stage.boundary_shape(receive.micro_batch), stage.boundary_dtype(), stream_);
    pending.work = pipeline_.recv(pending.tensor, peer_of(schedule_, receive), stream_);
  }

  void send(const Action& action) {
    const int to = peer_of(schedule_, action);
    const Tensor tensor = take_ready(action);
    sends_.push_back({.to = to,
                      .used_at = peer_programs_.used_at(action),
                      .work = pipeline_.send(tensor, to, stream_)});
  }

  Tensor take_ready(const Action& key) {
    const auto found = ready_.find(key);
    FATHOM_CHECK(found != ready_.end(), "nothing was made for ", to_string(key));
    Tensor tensor = std::move(found->second);
    ready_.erase(found);
    return tensor;
  }

  Tensor receive(const Action& key) {
    const auto found = receives_.find(key);
    FATHOM_CHECK(found != receives_.end(), to_string(key), " is not before what needs it");
    PendingReceive pending = std::move(found->second);
    receives_.erase(found);
    pending.work.wait();
    const int from = peer_of(schedule_, key);
    const int peer_was_at = peer_programs_.sent_at(key);
    for (auto send = sends_.begin(); send != sends_.end();) {
      const bool is_over = send->to == from && send->used_at < peer_was_at;
      if (is_over) {
        send->work.wait();
      }
      send = is_over ? sends_.erase(send) : std::next(send);
    }
    return std::move(pending.tensor);
  }

  // What a computation takes in: received, or left by the neighbouring stage on this same rank;
  // empty at the ends of the pipeline. A tensor that stays on the rank waits under the key of the
  // receive that it saves.
  Tensor input_of(const Action& compute) {
    if (const auto key = receive_before(schedule_, compute)) {
      return receive(*key);
    }
    const bool is_forward = compute.kind == ActionKind::kForward;
    const bool is_end = is_forward ? compute.stage == 0 : compute.stage == schedule_.num_stages - 1;
    return is_end ? Tensor() : take_ready(local_key(compute, compute.stage, is_forward));
  }

  void keep_output(const Action& compute, Tensor output) {
    const bool is_forward = compute.kind == ActionKind::kForward;
    const int next_stage = compute.stage + (is_forward ? 1 : -1);
    if (next_stage < 0 || next_stage >= schedule_.num_stages) {
      return;
    }
    const auto send_key = send_after(schedule_, compute);
    ready_[send_key ? *send_key : local_key(compute, next_stage, is_forward)] = std::move(output);
  }

  static Action local_key(const Action& compute, int stage, bool is_forward) {
    return {.kind = is_forward ? ActionKind::kRecvForward : ActionKind::kRecvBackward,
            .stage = stage,
            .micro_batch = compute.micro_batch,
            .pipe = compute.pipe};
  }

  void compute(const Action& action) {
    PipelineStage& stage = stage_of(action);
    switch (action.kind) {
      case ActionKind::kForward:
        keep_output(action, stage.forward(action.micro_batch, input_of(action)));
        break;
      case ActionKind::kBackward:
        keep_output(action, stage.backward(action.micro_batch, input_of(action)));
        break;
      case ActionKind::kBackwardInput:
        keep_output(action, stage.backward_input(action.micro_batch, input_of(action)));
        break;
      default:
        stage.backward_weight(action.micro_batch);
        break;
    }
  }

  const Schedule& schedule_;
  const std::span<PipelineStage* const> stages_;
  Communicator& pipeline_;
  Stream& stream_;
  const std::vector<Action>& actions_;
  const PeerPrograms peer_programs_;
  std::size_t num_posted_ = 0;  // actions before this position whose receives are posted
  std::map<Action, PendingReceive> receives_;
  std::map<Action, Tensor> ready_;
  std::list<PendingSend> sends_;
};

}  // namespace

void run(const Schedule& schedule, std::span<PipelineStage* const> stages, Communicator& pipeline,
         Stream& stream) {
  Executor(schedule, stages, pipeline, stream).run();
}

}  // namespace fathom::parallel
