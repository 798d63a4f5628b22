#pragma once

#include <memory>

#include "core/allocator.h"

namespace fathom {

// Memory of `parent` kept apart: what is freed is used again in the pool alone, until the pool and
// all tensors of it are gone. Taken from the parent in pieces of at least 16 MiB; the parent's
// statistics count those, and bytes_reserved() tells them. The parent must align blocks of that
// size to what its device needs. Not on the meta device.
std::shared_ptr<Allocator> make_pool_allocator(std::shared_ptr<Allocator> parent);

}  // namespace fathom
