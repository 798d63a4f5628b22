#include "kernels/matmul.h"

#include <blis.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/product.h"

namespace fathom::kernels {
namespace cpu {
namespace {

// One slice of the inner dimension: c = beta * c + a b.
void multiply_slice(const Product& product, std::int64_t first, std::int64_t size, float beta) {
  // Its small-matrix path sums in other orders, and differently for different shapes.
  rntm_t runtime = BLIS_RNTM_INITIALIZER;
  bli_rntm_set_num_threads(1, &runtime);
  bli_rntm_disable_l3_sup(&runtime);
  float one = 1.0F;
  const ConstMatrix a = product.a.from_column(first);
  const ConstMatrix b = product.b.from_row(first);
  bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, product.rows, product.columns, size, &one,
               const_cast<float*>(a.data), a.row_stride, a.column_stride,
               const_cast<float*>(b.data), b.row_stride, b.column_stride, &beta, product.c,
               product.c_row_stride, 1, nullptr, &runtime);
}

}  // namespace

Product Product::row_range(std::int64_t begin, std::int64_t end) const {
  Product part = *this;
  part.rows = end - begin;
  part.a = a.from_row(begin);
  part.c = c + begin * c_row_stride;
  return part;
}

Product Product::column_range(std::int64_t begin, std::int64_t end) const {
  Product part = *this;
  part.columns = end - begin;
  part.b = b.from_column(begin);
  part.c = c + begin;
  return part;
}

Product Product::inner_range(std::int64_t begin, std::int64_t end) const {
  Product part = *this;
  part.inner = end - begin;
  part.a = a.from_column(begin);
  part.b = b.from_row(begin);
  return part;
}

void multiply_by_blis(const Product& product) {
  bool is_adding = product.accumulate == Accumulate::kAdd;
  for (std::int64_t first = 0; first < product.inner; first += kInnerSlice) {
    const std::int64_t size = std::min(kInnerSlice, product.inner - first);
    multiply_slice(product, first, size, is_adding ? 1.0F : 0.0F);
    is_adding = true;
  }
}

void multiply(const Product& product, Stream& stream) {
  if (product.rows == 0 || product.columns == 0) {
    return;
  }
  if (product.inner == 0) {
    for (std::int64_t row = 0; row < product.rows && product.accumulate == Accumulate::kOverwrite;
         ++row) {
      std::fill_n(product.c + row * product.c_row_stride, product.columns, 0.0F);
    }
  } else if (product.num_chunks > 1) {
    multiply_chunks(product, stream);
  } else if (is_for_tiles(product)) {
    multiply_by_tiles(product, stream);
  } else {
    multiply_by_blis(product);
  }
}

namespace {

// Calls body(begin, end) on ranges of the product's rows, or of its columns where those are more:
// whole register blocks, on the threads of the stream.
template <class Body>
void split_outputs(const Product& product, Stream& stream, Body&& body) {
  const bool split_rows = product.rows >= product.columns;
  const std::int64_t size = split_rows ? product.rows : product.columns;
  const std::int64_t other = split_rows ? product.columns : product.rows;
  const std::int64_t num_blocks = (size + kThreadBlock - 1) / kThreadBlock;
  const std::int64_t block_work = std::max<std::int64_t>(1, kThreadBlock * other * product.inner);
  stream.parallel_for(
      num_blocks, 1 + kMinThreadMultiplyAdds / block_work,
      [&](std::int64_t begin, std::int64_t end) {
        const std::int64_t first = begin * kThreadBlock;
        const std::int64_t last = std::min(end * kThreadBlock, size);
        body(split_rows ? product.row_range(first, last) : product.column_range(first, last),
             split_rows ? first : 0, split_rows ? 0 : first);
      });
}

}  // namespace

void multiply_on_threads(const Product& product, Stream& stream) {
  split_outputs(product, stream,
                [&](const Product& part, std::int64_t, std::int64_t) { multiply(part, stream); });
}

namespace {

void forward(const Tensor& x, const Tensor& w, Tensor& y, int num_chunks, Stream& stream) {
  const std::int64_t in_size = w.size(1);
  const std::int64_t out_size = w.size(0);
  multiply_on_threads({.rows = x.size(0),
                       .columns = out_size,
                       .inner = in_size,
                       .a = {x.data<float>(), x.size(1), 1},
                       .b = {w.data<float>(), 1, in_size},
                       .c = y.mutable_data<float>(),
                       .c_row_stride = out_size,
                       .num_chunks = num_chunks},
                      stream);
}

void backward_input(const Tensor& dy, const Tensor& w, Tensor& dx,
                    const InputGradientOptions& options, Stream& stream) {
  const std::int64_t in_size = w.size(1);
  const std::int64_t out_size = w.size(0);
  multiply_on_threads({.rows = dy.size(0),
                       .columns = in_size,
                       .inner = out_size,
                       .a = {dy.data<float>(), out_size, 1},
                       .b = {w.data<float>(), in_size, 1},
                       .c = dx.mutable_data<float>(),
                       .c_row_stride = dx.size(1),
                       .accumulate = options.accumulate,
                       .num_chunks = options.num_chunks},
                      stream);
}

// Bounds of the contributions: whole units of rows, or all rows at once.
std::vector<std::int64_t> unit_bounds(std::int64_t num_rows, std::int64_t unit_rows) {
  std::vector<std::int64_t> bounds;
  for (std::int64_t row = 0; unit_rows > 0 && row < num_rows; row += unit_rows) {
    bounds.push_back(row);
  }
  if (bounds.empty()) {
    bounds.push_back(0);
  }
  bounds.push_back(num_rows);
  return bounds;
}

void backward_weight(const Tensor& dy, const Tensor& x, GradientSum& dw, Stream& stream) {
  const std::int64_t in_size = dw.sum.size(1);
  const std::int64_t out_size = dw.sum.size(0);
  Product product{.rows = out_size,
                  .columns = in_size,
                  .inner = dy.size(0),
                  .a = {dy.data<float>(), 1, out_size},
                  .b = {x.data<float>(), x.size(1), 1}};
  if (dw.sum.dtype() == DType::kFloat32 && dw.unit_rows == 0) {
    product.c = dw.sum.mutable_data<float>();
    product.c_row_stride = in_size;
    product.accumulate = dw.accumulate();
    multiply_on_threads(product, stream);
    return;
  }
  const std::vector<std::int64_t> bounds = unit_bounds(product.inner, dw.unit_rows);
  split_outputs(product, stream, [&](const Product& part, std::int64_t row, std::int64_t column) {
    add_contributions(part, bounds, {&dw, row * in_size + column, in_size}, stream);
  });
}

const KernelRegistration register_forward(matmul_forward_slot, DeviceType::kCpu, &forward);
const KernelRegistration register_backward_input(matmul_backward_input_slot, DeviceType::kCpu,
                                                 &backward_input);
const KernelRegistration register_backward_weight(matmul_backward_weight_slot, DeviceType::kCpu,
                                                  &backward_weight);

}  // namespace
}  // namespace cpu
}  // namespace fathom::kernels
