#pragma once

#include <memory>

#include "parallel/comm/communicator.h"

namespace fathom::parallel {

// Rank `rank` of a world of `size` ranks that do not exist, and the groups made from it: for
// planning a run on the meta device. Moves nothing; counts traffic. Host integers behave as if
// every rank gave this rank's: all_gather_integers repeats `mine`. Tensors that hold data are an
// InternalError in groups of more than one.
std::unique_ptr<Communicator> make_meta_world(int rank, int size);

}  // namespace fathom::parallel
