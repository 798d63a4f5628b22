#pragma once

#include <memory>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/host_communicator.h"

namespace fathom::parallel {

// A world whose ranks are threads of this process: element r belongs to rank r, whose thread alone
// calls it. A world of one serves a program that was not started by mpirun. Messages are copied
// once, by the receiver, out of the sender's tensor. options.aborted ends the waits of all ranks;
// options.heartbeat is for worlds of one.
std::vector<std::unique_ptr<Communicator>> make_thread_world(int size,
                                                             const CommOptions& options = {});

}  // namespace fathom::parallel
