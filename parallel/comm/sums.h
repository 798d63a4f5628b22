#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/exact_sum.h"
#include "parallel/comm/communicator.h"

namespace fathom::parallel {

// Collective: the number of the first rank of the group.
std::int64_t from_rank_0(std::int64_t mine, Communicator& communicator);
// Collective, of as many numbers on every rank: their sums over the ranks, the same on all. Host
// integers, for counts and statistics; tensors have Communicator::all_reduce.
std::vector<std::int64_t> sum_integers(std::span<const std::int64_t> mine,
                                       Communicator& communicator);
// The same without any rounding but the last one of each sum.
std::vector<double> sum_exactly(std::span<const ExactSum> mine, Communicator& communicator);

}  // namespace fathom::parallel
