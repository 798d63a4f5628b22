#pragma once

#include <functional>

#include "parallel/comm/communicator.h"

namespace fathom::trainer {

// Collective: runs `body` on each rank, then tells all ranks how it went. When it threw anywhere,
// every rank throws the error of the first rank that failed (ConfigError, IoError or DeviceError as
// there; anything else InternalError), naming that rank unless all ranks failed. `body` may use the
// communicator only where it can still not throw on a part of the ranks. A CommError goes through
// at once: there is nobody to tell.
void agree(parallel::Communicator& world, const std::function<void()>& body);

}  // namespace fathom::trainer
