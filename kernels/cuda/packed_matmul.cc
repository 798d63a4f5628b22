#include "kernels/packed_matmul.h"

#include "core/cuda/queue.h"
#include "kernels/cuda/blas.h"

// The heads' products as one batch. A packed matrix lies by rows, as it is: [padded out_size,
// in_size].
namespace fathom::kernels {
namespace {

void forward_heads(const Tensor& x, const Tensor& packed, Tensor& y, Stream& stream) {
  const std::int64_t num_heads = packed.size(0);
  const std::int64_t in_size = packed.size(2);
  if (y.numel() == 0) {
    return;
  }
  if (in_size == 0) {
    cuda_queue(stream).fill_zero(y.raw(), y.size_bytes());
    return;
  }
  const std::int64_t x_size = x.size(1) / num_heads;
  const std::int64_t y_size = y.size(1) / num_heads;
  cuda::product(
      {.num_rows = x.size(0),
       .num_columns = y_size,
       .inner_size = in_size,
       .factor_dtype = x.dtype(),
       .left = {.data = x.raw(), .stride = x.size(1), .batch_stride = x_size},
       .right = {.data = packed.raw(),
                 .stride = in_size,
                 .is_transposed = true,
                 .batch_stride = padded_to_panels(y_size) * in_size},
       .output = {.data = y.raw(), .stride = y.size(1), .dtype = y.dtype(), .batch_stride = y_size},
       .batch_size = num_heads},
      stream);
}

const KernelRegistration register_heads(packed_head_matmul_forward_slot, DeviceType::kCuda,
                                        forward_heads);

}  // namespace
}  // namespace fathom::kernels
