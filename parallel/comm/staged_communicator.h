#pragma once

#include <memory>

#include "parallel/comm/communicator.h"

namespace fathom::parallel {

// `host`, which moves host memory, also for tensors of a device, in its groups too: what is sent is
// copied to the host when the operation begins, which waits for the stream; what is received is
// copied back in Work::wait(). Sums are taken on the host, so they have the bits of a CPU run's. In
// a group of one nothing is staged and nothing waits: the stream copies. Tensors of the CPU and the
// meta device are handed on as they are.
std::unique_ptr<Communicator> stage_device_tensors(std::unique_ptr<Communicator> host);

}  // namespace fathom::parallel
