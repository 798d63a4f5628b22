#pragma once

#include <functional>

#include "parallel/comm/communicator.h"

namespace fathom::parallel {

// Marks an error that every rank throws at the same point with the same message, beside its kind:
// one rank reports it for all, and none has to take the others down.
class SharedError {
 public:
  virtual ~SharedError() = default;
};

template <class Kind>
class Shared final : public Kind, public SharedError {
 public:
  using Kind::Kind;
};

// Collective: runs `body` on each rank, then tells all ranks how it went, so that none goes on to
// wait for one that has given up. When it threw anywhere, every rank throws the error of the first
// rank that failed, as a Shared<> of its kind (ConfigError, IoError, DeviceError; anything else
// InternalError). The message names that rank, unless all ranks say the same. `body` may use the
// communicator only where it can still not throw on a part of the ranks. A CommError goes through
// at once: there is nobody to tell.
void agree(Communicator& world, const std::function<void()>& body);

}  // namespace fathom::parallel
