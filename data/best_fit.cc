#include "data/best_fit.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/error.h"

namespace fathom::data {

std::vector<std::vector<std::int64_t>> pack_best_fit(std::span<const std::int64_t> sizes,
                                                     std::int64_t capacity) {
  const auto size_of = [&](std::int64_t item) { return sizes[static_cast<std::size_t>(item)]; };
  std::vector<std::int64_t> items(sizes.size());
  std::iota(items.begin(), items.end(), std::int64_t{0});
  std::sort(items.begin(), items.end(), [&](std::int64_t a, std::int64_t b) {
    return size_of(a) != size_of(b) ? size_of(a) > size_of(b) : a < b;
  });
  std::vector<std::vector<std::int64_t>> bins;
  std::map<std::int64_t, std::vector<std::size_t>> bins_by_room;
  for (const std::int64_t item : items) {
    const std::int64_t size = size_of(item);
    FATHOM_CHECK(size >= 1 && size <= capacity, "item ", item, " of ", size, " in ", capacity);
    std::size_t bin = bins.size();
    std::int64_t room = capacity;
    if (const auto found = bins_by_room.lower_bound(size); found != bins_by_room.end()) {
      room = found->first;
      bin = found->second.back();
      found->second.pop_back();
      if (found->second.empty()) {
        bins_by_room.erase(found);
      }
    } else {
      bins.emplace_back();
    }
    bins[bin].push_back(item);
    if (room > size) {
      bins_by_room[room - size].push_back(bin);
    }
  }
  for (std::vector<std::int64_t>& bin : bins) {
    std::sort(bin.begin(), bin.end());
  }
  std::sort(bins.begin(), bins.end(),
            [](const auto& a, const auto& b) { return a.front() < b.front(); });
  return bins;
}

}  // namespace fathom::data
