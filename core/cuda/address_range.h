#pragma once

#include <memory>

#include "core/address_range.h"

namespace fathom {

// As many addresses as the device has memory, backed by physical memory in pieces of 64 MiB as they
// are committed (CUDA's virtual memory management). Nothing is given back before the range ends.
std::unique_ptr<AddressRange> make_cuda_address_range(int device);

}  // namespace fathom
