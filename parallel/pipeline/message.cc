#include "parallel/pipeline/message.h"

#include "core/error.h"

namespace fathom::parallel {
namespace {

bool crosses_ranks(const Schedule& schedule, const Action& action, int other_stage) {
  return other_stage >= 0 && other_stage < schedule.num_stages &&
         rank_of(schedule, action) != schedule.rank_of_stage[static_cast<std::size_t>(action.pipe)]
                                                            [static_cast<std::size_t>(other_stage)];
}

Action with_kind(const Action& action, ActionKind kind, int stage) {
  return {.kind = kind, .stage = stage, .micro_batch = action.micro_batch, .pipe = action.pipe};
}

}  // namespace

bool is_send(ActionKind kind) noexcept {
  return kind == ActionKind::kSendForward || kind == ActionKind::kSendBackward;
}

bool is_receive(ActionKind kind) noexcept {
  return kind == ActionKind::kRecvForward || kind == ActionKind::kRecvBackward;
}

bool is_compute(ActionKind kind) noexcept { return !is_send(kind) && !is_receive(kind); }

int rank_of(const Schedule& schedule, const Action& action) {
  return schedule.rank_of_stage.at(static_cast<std::size_t>(action.pipe))
      .at(static_cast<std::size_t>(action.stage));
}

int peer_of(const Schedule& schedule, const Action& send_or_receive) {
  FATHOM_CHECK(!is_compute(send_or_receive.kind), to_string(send_or_receive));
  return rank_of(schedule, is_send(send_or_receive.kind) ? receive_of(send_or_receive)
                                                         : send_of(send_or_receive));
}

Action receive_of(const Action& send) noexcept {
  return send.kind == ActionKind::kSendForward
             ? with_kind(send, ActionKind::kRecvForward, send.stage + 1)
             : with_kind(send, ActionKind::kRecvBackward, send.stage - 1);
}

Action send_of(const Action& receive) noexcept {
  return receive.kind == ActionKind::kRecvForward
             ? with_kind(receive, ActionKind::kSendForward, receive.stage - 1)
             : with_kind(receive, ActionKind::kSendBackward, receive.stage + 1);
}

std::optional<Action> receive_before(const Schedule& schedule, const Action& compute) {
  const int stage = compute.stage;
  if (compute.kind == ActionKind::kForward && crosses_ranks(schedule, compute, stage - 1)) {
    return with_kind(compute, ActionKind::kRecvForward, stage);
  }
  const bool needs_output_grad =
      compute.kind == ActionKind::kBackward || compute.kind == ActionKind::kBackwardInput;
  if (needs_output_grad && crosses_ranks(schedule, compute, stage + 1)) {
    return with_kind(compute, ActionKind::kRecvBackward, stage);
  }
  return std::nullopt;
}

std::optional<Action> send_after(const Schedule& schedule, const Action& compute) {
  const int stage = compute.stage;
  if (compute.kind == ActionKind::kForward && crosses_ranks(schedule, compute, stage + 1)) {
    return with_kind(compute, ActionKind::kSendForward, stage);
  }
  const bool makes_input_grad =
      compute.kind == ActionKind::kBackward || compute.kind == ActionKind::kBackwardInput;
  if (makes_input_grad && crosses_ranks(schedule, compute, stage - 1)) {
    return with_kind(compute, ActionKind::kSendBackward, stage);
  }
  return std::nullopt;
}

std::string describe_place(int rank, int position, const Action& action) {
  return concat("rank ", rank, ", position ", position, " (", to_string(action), ")");
}

}  // namespace fathom::parallel
