#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "parallel/comm/communicator.h"

namespace fathom::cli {

// What a rank sees of the devices of its node.
struct DeviceView {
  int first_rank_of_node = 0;  // the same on all ranks of a node, and on no other
  int num_devices = 0;         // above 0
  std::array<std::int64_t, 2> first_device = {};  // DeviceBackend::unique_id(0)
  bool operator==(const DeviceView&) const = default;
};

// Collective: of all ranks, in their order.
std::vector<DeviceView> gather_device_views(parallel::Communicator& world, const DeviceView& mine);

// Which of the devices that `rank` sees is its own: that of its place among the ranks of its node;
// or its only one, where a launcher shows every rank of the node one device and each another
// (Slurm's --gpus-per-task). When there are fewer devices than ranks, ranks share them in turns if
// they may, else ConfigError.
int choose_device(std::span<const DeviceView> views, int rank, bool may_share);

}  // namespace fathom::cli
