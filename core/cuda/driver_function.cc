#include "core/cuda/driver_function.h"

#include <cuda_runtime.h>

#include <string>

#include "core/cuda/check.h"
#include "core/error.h"

namespace fathom {

void* driver_symbol(const char* name) {
  constexpr unsigned kOldestDriver = 12000;
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check_cuda(
      cudaGetDriverEntryPointByVersion(name, &function, kOldestDriver, cudaEnableDefault, &found),
      std::string("the driver's ") + name);
  if (found != cudaDriverEntryPointSuccess) {
    throw DeviceError(concat("the CUDA driver has no ", name, ": it is too old"));
  }
  return function;
}

}  // namespace fathom
