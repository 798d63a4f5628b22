#include "kernels/matmul.h"

#include "core/cuda/queue.h"
#include "kernels/cuda/blas.h"
#include "kernels/elementwise.h"

// Chunks are for sums that do not depend on the layout, which the CPU alone has: ignored here.
namespace fathom::kernels {
namespace {

using cuda::Factor;
using cuda::Output;
using cuda::Product;

Factor factor(const Tensor& matrix) { return {matrix.raw(), matrix.size(1), false}; }
Factor transposed(const Tensor& matrix) { return {matrix.raw(), matrix.size(1), true}; }
Output output(Tensor& matrix, Accumulate accumulate) {
  return {matrix.raw(), matrix.size(1), matrix.dtype(), accumulate == Accumulate::kAdd};
}

// Output += product or, first zeroing it, = product. Sizes may be 0.
void run(const Product& product, Stream& stream) {
  if (product.num_rows == 0 || product.num_columns == 0) {
    return;
  }
  if (product.inner_size > 0) {
    cuda::product(product, stream);
    return;
  }
  if (!product.output.is_adding) {
    const std::int64_t element = size_of(product.output.dtype);
    if (product.output.stride == product.num_columns) {
      cuda_queue(stream).fill_zero(product.output.data,
                                   product.num_rows * product.num_columns * element);
      return;
    }
    for (std::int64_t row = 0; row < product.num_rows; ++row) {
      cuda_queue(stream).fill_zero(product.output.data + row * product.output.stride * element,
                                   product.num_columns * element);
    }
  }
}

void forward(const Tensor& x, const Tensor& w, Tensor& y, int /*num_chunks*/, Stream& stream) {
  run({x.size(0), w.size(0), w.size(1), x.dtype(), factor(x), transposed(w),
       output(y, Accumulate::kOverwrite)},
      stream);
}

// Tensor cores take factors of one dtype: dy as it is, or rounded to `dtype`.
Tensor rounded(const Tensor& dy, DType dtype, Stream& stream) {
  if (dy.dtype() == dtype) {
    return dy;
  }
  Tensor result = Tensor::empty(dy.shape(), dtype, stream);
  convert(dy, result, stream);
  return result;
}

void backward_input(const Tensor& dy, const Tensor& w, Tensor& dx,
                    const InputGradientOptions& options, Stream& stream) {
  const Tensor left = rounded(dy, w.dtype(), stream);
  run({dy.size(0), w.size(1), w.size(0), w.dtype(), factor(left), factor(w),
       output(dx, options.accumulate)},
      stream);
}

void backward_weight(const Tensor& dy, const Tensor& x, GradientSum& dw, Stream& stream) {
  FATHOM_CHECK(dw.sum.dtype() == DType::kFloat32, "matmul_backward_weight: sums of ",
               dw.sum.dtype(), " are the CPU's, CUDA has float32");
  const Tensor left = rounded(dy, x.dtype(), stream);
  run({dw.sum.size(0), dw.sum.size(1), x.size(0), x.dtype(), transposed(left), factor(x),
       output(dw.sum, dw.accumulate())},
      stream);
}

const KernelRegistration register_forward(matmul_forward_slot, DeviceType::kCuda, forward);
const KernelRegistration register_backward_input(matmul_backward_input_slot, DeviceType::kCuda,
                                                 backward_input);
const KernelRegistration register_backward_weight(matmul_backward_weight_slot, DeviceType::kCuda,
                                                  backward_weight);

}  // namespace
}  // namespace fathom::kernels
