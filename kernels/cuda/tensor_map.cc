#include "kernels/cuda/tensor_map.h"

#include <array>

#include "core/cuda/driver_function.h"
#include "core/cuda/queue.h"
#include "core/error.h"
#include "kernels/cuda/sm90_layout.h"

namespace fathom::kernels::cuda {
namespace {

// Kept with the queue: looking the function up takes longer than calling it.
struct TensorMapEncoder {
  explicit TensorMapEncoder(const CudaQueue& /*queue*/) {}
  decltype(&cuTensorMapEncodeTiled) encode =
      driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
};

}  // namespace

CUtensorMap tensor_map(const MatrixStack& matrices, int box_rows, Stream& stream) {
  constexpr cuuint32_t kDimensions = 3;
  constexpr std::int64_t kElementBytes = 2;
  const std::int64_t row_bytes = matrices.row_stride * kElementBytes;
  const std::array sizes{static_cast<cuuint64_t>(matrices.num_columns),
                         static_cast<cuuint64_t>(matrices.num_rows),
                         static_cast<cuuint64_t>(matrices.num_matrices)};
  const std::array strides{static_cast<cuuint64_t>(row_bytes),
                           static_cast<cuuint64_t>(row_bytes * matrices.num_rows)};
  const std::array<cuuint32_t, kDimensions> box{kBoxColumns, static_cast<cuuint32_t>(box_rows), 1};
  const std::array<cuuint32_t, kDimensions> element_strides{1, 1, 1};
  CudaQueue& queue = cuda_queue(stream);
  queue.use_device();  // the driver wants a context
  CUtensorMap map{};
  const CUresult status = queue.state<TensorMapEncoder>().encode(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kDimensions, const_cast<void*>(matrices.data),
      sizes.data(), strides.data(), box.data(), element_strides.data(),
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw DeviceError(concat("cuTensorMapEncodeTiled of ", matrices.num_matrices, " matrices of ",
                             matrices.num_rows, " x ", matrices.num_columns, ": error ",
                             static_cast<int>(status)));
  }
  return map;
}

}  // namespace fathom::kernels::cuda
