#include "cli/rank_device.h"

#include <algorithm>

#include "core/error.h"

namespace fathom::cli {
namespace {

constexpr std::size_t kIntegers = 4;  // of a view

// The ranks on the node of `rank`, ascending.
std::vector<int> ranks_of_node(std::span<const DeviceView> views, int rank) {
  const int node = views[static_cast<std::size_t>(rank)].first_rank_of_node;
  std::vector<int> ranks;
  for (std::size_t other = 0; other < views.size(); ++other) {
    if (views[other].first_rank_of_node == node) {
      ranks.push_back(static_cast<int>(other));
    }
  }
  return ranks;
}

bool each_sees_one_of_its_own(std::span<const DeviceView> views, const std::vector<int>& ranks) {
  std::vector<std::array<std::int64_t, 2>> devices;
  for (const int rank : ranks) {
    const DeviceView& view = views[static_cast<std::size_t>(rank)];
    if (view.num_devices != 1) {
      return false;
    }
    devices.push_back(view.first_device);
  }
  std::ranges::sort(devices);
  return std::ranges::adjacent_find(devices) == devices.end();
}

}  // namespace

std::vector<DeviceView> gather_device_views(parallel::Communicator& world, const DeviceView& mine) {
  const std::array<std::int64_t, kIntegers> here = {mine.first_rank_of_node, mine.num_devices,
                                                    mine.first_device[0], mine.first_device[1]};
  std::vector<std::int64_t> all(kIntegers * static_cast<std::size_t>(world.world_size()));
  world.all_gather_integers(here, all);
  std::vector<DeviceView> views;
  for (std::size_t i = 0; i < all.size(); i += kIntegers) {
    views.push_back(
        {static_cast<int>(all[i]), static_cast<int>(all[i + 1]), {all[i + 2], all[i + 3]}});
  }
  return views;
}

int choose_device(std::span<const DeviceView> views, int rank, bool may_share) {
  const std::vector<int> ranks = ranks_of_node(views, rank);
  if (each_sees_one_of_its_own(views, ranks)) {
    return 0;
  }
  const int place = static_cast<int>(std::ranges::find(ranks, rank) - ranks.begin());
  const int num_devices = views[static_cast<std::size_t>(rank)].num_devices;
  if (place >= num_devices && !may_share) {
    throw ConfigError(concat("no CUDA device is left for this rank: it is number ", place,
                             " of the ranks of its node, from 0, and sees ", num_devices,
                             "; start one rank a device, or set "
                             "run.transport=MPI, which lets ranks share devices"));
  }
  return place % num_devices;
}

}  // namespace fathom::cli
