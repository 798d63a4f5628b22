#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fathom::data {

// Best fit decreasing: the largest item first, each into the fullest bin that has room for it, so
// that nothing is cut ("Fewer Truncations Improve Language Modeling", arXiv:2404.10830). -> bins of
// items, ascending, in the order of their first items; the same for the same sizes. O(n log n).
// Sizes are 1 to capacity.
std::vector<std::vector<std::int64_t>> pack_best_fit(std::span<const std::int64_t> sizes,
                                                     std::int64_t capacity);

}  // namespace fathom::data
