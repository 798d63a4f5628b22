#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace fathom::testing {

// What one rank did with its communicators: an operation was started, or waited for.
struct Communication {
  std::string group;
  std::string operation;   // "all_gather", ...
  std::int64_t numel = 0;  // of the larger tensor
  bool is_wait = false;
  bool operator==(const Communication&) const = default;
};
using CommunicationLog = std::vector<Communication>;

// Writes into `log` what is done with the sums, gathers and exchanges of tensors of `inner` and of
// the groups made from it, those of one rank left out. `log` belongs to this rank and outlives it.
std::unique_ptr<parallel::Communicator> record_communication(parallel::Communicator& inner,
                                                             CommunicationLog& log);

}  // namespace fathom::testing
