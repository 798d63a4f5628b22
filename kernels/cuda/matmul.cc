#include "kernels/matmul.h"

#include <algorithm>

#include "core/cuda/queue.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/chunk_sums.h"
#include "kernels/cuda/grouped_product.h"
#include "kernels/elementwise.h"

// The fastest products are cuBLASLt's, whose order of sums follows from all sizes of a call. Those
// in fixed order, and sums of integers, are grouped products of one expert. Chunks are for sums
// that do not depend on the layout: ignored where the order is not fixed.
namespace fathom::kernels {
namespace {

using cuda::Factor;
using cuda::GroupedOperands;
using cuda::GroupedProduct;
using cuda::GroupedSizes;
using cuda::Output;
using cuda::Product;
using cuda::RowMajor;

// --- By cuBLASLt

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

// Tensor cores take factors of one dtype: dy as it is, or rounded to `dtype`.
Tensor rounded(const Tensor& dy, DType dtype, Stream& stream) {
  if (dy.dtype() == dtype) {
    return dy;
  }
  Tensor result = Tensor::empty(dy.shape(), dtype, stream);
  convert(dy, result, stream);
  return result;
}

// --- In fixed order

bool is_fixed(const Stream& stream) { return stream.sum_order() == SumOrder::kFixed; }

RowMajor row_major(const Tensor& matrix) { return {matrix.raw(), matrix.dtype(), matrix.size(1)}; }
RowMajor from(const RowMajor& matrix, std::int64_t row, std::int64_t column) {
  return {matrix.data + (row * matrix.stride + column) * size_of(matrix.dtype), matrix.dtype,
          matrix.stride};
}

// A forward or the backward of an input.
struct FixedProduct {
  GroupedProduct kind = GroupedProduct::kForward;
  GroupedOperands operands;
  GroupedSizes sizes;

  bool is_forward() const { return kind == GroupedProduct::kForward; }
  std::int64_t num_columns() const { return is_forward() ? sizes.out_size : sizes.in_size; }
  void run(Stream& stream) const { grouped_product(kind, operands, sizes, stream); }
  // Of some rows alone.
  FixedProduct rows(std::int64_t begin, std::int64_t end) const {
    FixedProduct part = *this;
    part.operands.a = from(operands.a, begin, 0);
    part.operands.c = from(operands.c, begin, 0);
    part.sizes.part_tokens = part.sizes.num_tokens = cuda::to_int(end - begin);
    return part;
  }
  // Of one of num_chunks parts of the inner dimension alone.
  FixedProduct chunk(int index, int num_chunks, const RowMajor& to) const {
    FixedProduct part = *this;
    int& inner = is_forward() ? part.sizes.in_size : part.sizes.out_size;
    inner /= num_chunks;
    const std::int64_t begin = std::int64_t{index} * inner;
    part.operands.a = from(operands.a, 0, begin);
    part.operands.b = is_forward() ? from(operands.b, 0, begin) : from(operands.b, begin, 0);
    part.operands.c = to;
    return part;
  }
};

// The chunks' products of some rows at a time in float32, then their sums.
void run_in_chunks(const FixedProduct& product, int num_chunks, Stream& stream) {
  constexpr std::int64_t kScratchBytes = std::int64_t{64} << 20;
  constexpr std::int64_t kWholeTiles = 128;  // rows; more where they fit, so that no tile is cut
  const std::int64_t num_rows = product.sizes.num_tokens;
  const std::int64_t num_columns = product.num_columns();
  const std::int64_t row_bytes = num_chunks * num_columns * size_of(DType::kFloat32);
  const std::int64_t most_rows =
      std::max<std::int64_t>(1, kScratchBytes / row_bytes / kWholeTiles) * kWholeTiles;
  for (std::int64_t row = 0; row < num_rows; row += most_rows) {
    const FixedProduct rows = product.rows(row, std::min(num_rows, row + most_rows));
    const Tensor partial =
        Tensor::empty({num_chunks, rows.sizes.num_tokens, num_columns}, DType::kFloat32, stream);
    for (int chunk = 0; chunk < num_chunks; ++chunk) {
      const Tensor to = partial.narrow(chunk, chunk + 1);
      rows.chunk(chunk, num_chunks, {to.raw(), to.dtype(), num_columns}).run(stream);
    }
    add_chunks(partial, rows.operands.c, stream);
  }
}

void run_fixed(const FixedProduct& product, int num_chunks, Stream& stream) {
  if (num_chunks == 1) {
    product.run(stream);
  } else if (product.sizes.num_tokens > 0 && product.num_columns() > 0) {
    run_in_chunks(product, num_chunks, stream);
  }
}

// `weights` is the shape of w or dw, `unit_rows` that of a contribution, 0 for all rows.
GroupedSizes dense_sizes(std::int64_t num_rows, const Shape& weights, std::int64_t unit_rows) {
  return {.part_tokens = cuda::to_int(unit_rows > 0 ? unit_rows : num_rows),
          .parts = unit_rows > 0 ? cuda::to_int(num_rows / unit_rows) : 1,
          .num_experts = 1,
          .num_tokens = cuda::to_int(num_rows),
          .out_size = cuda::to_int(weights[0]),
          .in_size = cuda::to_int(weights[1])};
}

// --- The operations

void forward(const Tensor& x, const Tensor& w, Tensor& y, int num_chunks, Stream& stream) {
  if (is_fixed(stream)) {
    run_fixed({GroupedProduct::kForward,
               {row_major(x), row_major(w), row_major(y)},
               dense_sizes(x.size(0), w.shape(), 0)},
              num_chunks, stream);
    return;
  }
  run({x.size(0), w.size(0), w.size(1), x.dtype(), factor(x), transposed(w),
       output(y, Accumulate::kOverwrite)},
      stream);
}

void backward_input(const Tensor& dy, const Tensor& w, Tensor& dx,
                    const InputGradientOptions& options, Stream& stream) {
  const Tensor left = rounded(dy, w.dtype(), stream);
  if (is_fixed(stream)) {
    GroupedSizes sizes = dense_sizes(dy.size(0), w.shape(), 0);
    sizes.is_adding = options.accumulate == Accumulate::kAdd;
    run_fixed(
        {GroupedProduct::kBackwardInput, {row_major(left), row_major(w), row_major(dx)}, sizes},
        options.num_chunks, stream);
    return;
  }
  run({dy.size(0), w.size(1), w.size(0), w.dtype(), factor(left), factor(w),
       output(dx, options.accumulate)},
      stream);
}

void backward_weight(const Tensor& dy, const Tensor& x, GradientSum& dw, Stream& stream) {
  const Tensor left = rounded(dy, x.dtype(), stream);
  if (is_fixed(stream) || dw.sum.dtype() == DType::kInt64) {
    GroupedSizes sizes = dense_sizes(x.size(0), dw.sum.shape(), dw.unit_rows);
    sizes.is_adding = !dw.is_empty;
    grouped_product(GroupedProduct::kBackwardWeight,
                    {row_major(left), row_major(x), row_major(dw.sum), &dw}, sizes, stream);
    return;
  }
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
