#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "parallel/comm/communicator.h"

namespace fathom::parallel {

// Collective: what each rank gave, by rank, on `root`; nothing on the others. Travels as host
// integers, so any transport will do; for small things such as file lists and messages.
std::vector<std::string> gather_bytes(std::string_view mine, int root, Communicator& communicator);

// Collective: the same on every rank.
std::vector<std::string> all_gather_bytes(std::string_view mine, Communicator& communicator);

// Collective: what `root` gave, on every rank.
std::string broadcast_bytes(std::string_view mine, int root, Communicator& communicator);

}  // namespace fathom::parallel
