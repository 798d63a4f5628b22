#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <vector>

#include "core/stream.h"

namespace fathom::kernels::cpu {

// Calls body(begin, end) on consecutive ranges of the items, one range a thread, of about equal
// sums of weights. A range has at least `grain` of weight, except when all have less.
inline void parallel_for_weighted(
    std::span<const std::int64_t> weights, std::int64_t grain, Stream& stream,
    const std::function<void(std::size_t begin, std::size_t end)>& body) {
  std::vector<std::int64_t> starts(weights.size());
  std::exclusive_scan(weights.begin(), weights.end(), starts.begin(), std::int64_t{0});
  const std::int64_t total = weights.empty() ? 0 : starts.back() + weights.back();
  // An item belongs to the range in which its start lies.
  const auto item_from = [&](std::int64_t position) {
    return static_cast<std::size_t>(std::lower_bound(starts.begin(), starts.end(), position) -
                                    starts.begin());
  };
  stream.parallel_for(total, grain, [&](std::int64_t begin, std::int64_t end) {
    body(item_from(begin), end == total ? weights.size() : item_from(end));
  });
}

}  // namespace fathom::kernels::cpu
