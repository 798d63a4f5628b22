#pragma once

#include <memory>
#include <string>

#include "parallel/comm/communicator.h"

namespace fathom::testing {

enum class Fault {
  kNone,
  kReversedSums,         // float sums over ranks are taken from the last rank to the first
  kDroppedContribution,  // rank 1 leaves one element out of its first integer sum
};

// A communicator with a fault, also in the groups made from it: what a test of layouts must notice.
std::unique_ptr<parallel::Communicator> break_communicator(parallel::Communicator& inner,
                                                           Fault fault);

}  // namespace fathom::testing
