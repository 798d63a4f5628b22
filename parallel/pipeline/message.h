#pragma once

#include <optional>
#include <string>

#include "parallel/pipeline/schedule.h"

namespace fathom::parallel {

// Which tensors of a schedule cross from one rank to another. A message is named by its send or by
// its receive; the two ends of a pair of ranks must take the messages of that pair in one order.

bool is_send(ActionKind kind) noexcept;
bool is_receive(ActionKind kind) noexcept;
bool is_compute(ActionKind kind) noexcept;

// The rank that carries the action out, and the one at the other end of a send or receive.
int rank_of(const Schedule& schedule, const Action& action);
int peer_of(const Schedule& schedule, const Action& send_or_receive);

Action receive_of(const Action& send) noexcept;
Action send_of(const Action& receive) noexcept;

// What a compute action needs from, or makes for, another rank. Nothing at the ends of the pipeline
// and where the neighbouring stage is on the same rank: there the tensor is handed over locally.
std::optional<Action> receive_before(const Schedule& schedule, const Action& compute);
std::optional<Action> send_after(const Schedule& schedule, const Action& compute);

// "rank 1, position 3 (F0.1)": where an action is, for messages.
std::string describe_place(int rank, int position, const Action& action);

}  // namespace fathom::parallel
