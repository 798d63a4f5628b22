#include "core/cuda/check.h"

#include "core/error.h"

namespace fathom {

void check_cuda(cudaError_t status, std::string_view call, std::source_location where) {
  if (status != cudaSuccess) {
    throw DeviceError(concat(call, ": ", cudaGetErrorName(status), ", ", cudaGetErrorString(status),
                             " (", where.file_name(), ':', where.line(), ')'));
  }
}

}  // namespace fathom
