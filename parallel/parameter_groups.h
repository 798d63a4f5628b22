#pragma once

#include <cstdint>
#include <vector>

#include "parallel/parameter.h"

namespace fathom::parallel {

// Shares parameters, given in the order in which the forward pass needs them, out into groups that
// travel between replicas in one piece: neighbours with the same replicas, cut from the last one on
// so that a group is full as early in the backward pass as can be. A group ends as soon as it has
// `min_elements`; 0 stands for 40 million, or a million for each replica where that is more: the
// parts that ranks hand on then keep a network busy (Megatron-LM's default). Groups come in the
// order in which the forward pass needs their first parameters, and hold them in forward order.
std::vector<std::vector<Parameter*>> cut_into_groups(const std::vector<Parameter*>& parameters,
                                                     std::int64_t min_elements);

}  // namespace fathom::parallel
