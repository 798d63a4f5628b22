#pragma once

#include <cstdint>
#include <span>

#include "core/stream.h"
#include "kernels/gradient_sum.h"
#include "kernels/matmul.h"

namespace fathom::kernels::cpu {

// A float32 matrix in memory, row-major or transposed: one of the strides is 1.
struct ConstMatrix {
  const float* data = nullptr;
  std::int64_t row_stride = 0;  // elements from one row to the next
  std::int64_t column_stride = 1;

  ConstMatrix from_row(std::int64_t row) const {
    return {data + row * row_stride, row_stride, column_stride};
  }
  ConstMatrix from_column(std::int64_t column) const {
    return {data + column * column_stride, row_stride, column_stride};
  }
};

// c (+)= a b, every element as kernels/matmul.h defines it.
//   a  [rows, inner]
//   b  [inner, columns]
//   c  [rows, columns]
struct Product {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t inner = 0;
  ConstMatrix a;
  ConstMatrix b;
  float* c = nullptr;
  std::int64_t c_row_stride = 0;  // elements from one row of c to the next; columns are adjacent
  Accumulate accumulate = Accumulate::kOverwrite;
  int num_chunks = 1;  // of the inner dimension, whose products are added in a tree

  // Only the output rows or columns [begin, end), or that range of the inner dimension.
  Product row_range(std::int64_t begin, std::int64_t end) const;
  Product column_range(std::int64_t begin, std::int64_t end) const;
  Product inner_range(std::int64_t begin, std::int64_t end) const;
};

// On the calling thread, by one of the two implementations below. Scratch from the stream's
// allocator.
void multiply(const Product& product, Stream& stream);
// On the threads of the stream: each computes a range of rows or of columns.
void multiply_on_threads(const Product& product, Stream& stream);

// The rows of experts, [num_experts + 1]. Throws InternalError unless they ascend from 0 to
// num_rows.
std::span<const std::int64_t> checked_offsets(const Tensor& offsets, std::int64_t num_rows);

// multiply() for num_chunks above 1.
void multiply_chunks(const Product& product, Stream& stream);

// Rows of a weight gradient that one thread adds to.
struct WeightBlock {
  GradientSum* gradient = nullptr;
  std::int64_t first = 0;       // index of the block's first element in gradient->sum
  std::int64_t row_stride = 0;  // from one of its rows to the next
};
// The products over each range [bounds[i], bounds[i + 1]) of the inner dimension, one contribution
// each. On the calling thread; the product has no output of its own.
void add_contributions(const Product& product, std::span<const std::int64_t> bounds,
                       const WeightBlock& block, Stream& stream);

// b [size, width], width up to 16, as [size, 16] filled up with zeros.
void pack_panel(const ConstMatrix& b, std::int64_t size, std::int64_t width, float* panel);

// BLIS, one call a slice.
void multiply_by_blis(const Product& product);
// Our register tiles on a packed b; no fixed cost and no packing of a: faster where is_for_tiles()
// says so.
void multiply_by_tiles(const Product& product, Stream& stream);
bool is_for_tiles(const Product& product);

// Threads get whole register blocks: a multiple of the 6 and of the 16 of the AVX2 micro-kernels.
inline constexpr std::int64_t kThreadBlock = 48;
// Fewer multiply-adds than this are not worth handing to another thread.
inline constexpr std::int64_t kMinThreadMultiplyAdds = 1 << 17;

}  // namespace fathom::kernels::cpu
