#pragma once

#include <cuda_runtime.h>

#include <source_location>
#include <string_view>

namespace fathom {

// Throws DeviceError with the name of the call and CUDA's own words unless `status` is success.
void check_cuda(cudaError_t status, std::string_view call,
                std::source_location where = std::source_location::current());

}  // namespace fathom
