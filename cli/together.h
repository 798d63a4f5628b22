#pragma once

#include <functional>

#include "parallel/comm/communicator.h"

namespace fathom::cli {

// Runs `work` on this rank and learns how it went on the others: collective over `world`. If it
// threw anywhere, every rank throws the SharedFailure of the lowest such rank, so that no rank goes
// on to wait for one that has given up. For the time before training: an IoError counts as unusable
// input. `work` itself must not communicate.
void prepare_together(parallel::Communicator& world, const std::function<void()>& work);

// For work whose errors are the same on every rank, such as loading a checkpoint: turns them into
// SharedFailure, so that one message is shown.
void share_failure(const std::function<void()>& work);

}  // namespace fathom::cli
