#pragma once

#include <memory>

#include "core/device.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/host_communicator.h"

namespace fathom::parallel {

// The ranks of `host_world` for tensors of a CUDA device: NCCL moves those, over NVLink and the
// network, on a stream of the group's own, so that what the compute stream does meanwhile goes on.
// Collective over host_world, which stays in use: for groups, host integers, barriers and tensors
// of the CPU. Of each rank `device` is another one; the heartbeat and the deadline of `options`
// hold for the device's communications, too (operation_monitor.h). Differences to the host's
// transports:
//   - Work::wait() orders the stream after the operation and does not wait on the host. A failure
//     shows in the next call, on any communicator of the rank, as a CommError.
//   - float32 and bfloat16 sums and maxima are the rank tree's (rank_tree.h), bit for bit, where
//     the stream has a fixed order of sums: NCCL then only moves what a kernel on the group's
//     stream adds up. Elsewhere they are taken in NCCL's order: the same bits on every rank and for
//     the same group and message size; a maximum may drop a NaN.
//   - A group sets NCCL up in its first collective on device tensors, which waits for all members.
// In a group of one the stream copies, and NCCL is not used.
// Throws ConfigError when this build has no NCCL.
std::unique_ptr<Communicator> make_nccl_world(Communicator& host_world, Device device,
                                              const CommOptions& options);

}  // namespace fathom::parallel
