#include <algorithm>
#include <bit>

#include "core/tensor.h"
#include "kernels/cpu/contribution.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/simd.h"

// Products whose inner dimension is cut in parts that are not simply added one after the other.
namespace fathom::kernels::cpu {
namespace {

// Elements of a partial product that stay in the second-level cache.
constexpr std::int64_t kBlockElements = 1 << 16;

// Rows of the output worked on at a time: whole register blocks.
std::int64_t block_rows(const Product& product) {
  const std::int64_t fitting = kBlockElements / std::max<std::int64_t>(1, product.columns);
  return std::min(product.rows, std::max(kThreadBlock, fitting / kThreadBlock * kThreadBlock));
}

void add_rows(const Product& to, const float* from) {
  for (std::int64_t row = 0; row < to.rows; ++row) {
    float* const sums = to.c + row * to.c_row_stride;
    const float* const terms = from + row * to.columns;
    simd::for_each_block(to.columns, [&](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
      simd::store(simd::load(sums + i, extent) + simd::load(terms + i, extent), sums + i, extent);
    });
  }
}

// The tree over chunks [first, first + count) into the product's output. `scratch` holds one
// partial product for each level below.
void multiply_tree(const Product& product, int first, int count, float* scratch, Stream& stream) {
  const std::int64_t chunk = product.inner / product.num_chunks;
  if (count == 1) {
    Product leaf = product.inner_range(first * chunk, (first + 1) * chunk);
    leaf.num_chunks = 1;
    multiply(leaf, stream);
    return;
  }
  float* const below = scratch + product.rows * product.columns;
  multiply_tree(product, first, count / 2, below, stream);
  Product right = product;
  right.c = scratch;
  right.c_row_stride = product.columns;
  multiply_tree(right, first + count / 2, count / 2, below, stream);
  add_rows(product, scratch);
}

}  // namespace

void multiply_chunks(const Product& product, Stream& stream) {
  const std::int64_t rows = block_rows(product);
  const auto levels = std::bit_width(static_cast<unsigned>(product.num_chunks)) - 1;
  Tensor scratch = Tensor::empty({levels, rows, product.columns}, DType::kFloat32, stream);
  for (std::int64_t first = 0; first < product.rows; first += rows) {
    multiply_tree(product.row_range(first, std::min(first + rows, product.rows)), 0,
                  product.num_chunks, scratch.mutable_data<float>(), stream);
  }
}

void add_contributions(const Product& product, std::span<const std::int64_t> bounds,
                       const WeightBlock& block, Stream& stream) {
  const std::int64_t rows = block_rows(product);
  if (rows == 0 || product.columns == 0) {
    return;
  }
  Tensor scratch = Tensor::empty({rows, product.columns}, DType::kFloat32, stream);
  ContributionSink sink(*block.gradient);
  for (std::int64_t first = 0; first < product.rows; first += rows) {
    Product part = product.row_range(first, std::min(first + rows, product.rows));
    part.c = scratch.mutable_data<float>();
    part.c_row_stride = product.columns;
    const auto place = [&](std::int64_t row) {
      return block.first + (first + row) * block.row_stride;
    };
    for (std::int64_t row = 0; row < part.rows; ++row) {
      sink.begin(place(row), product.columns);
    }
    for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
      if (bounds[i] == bounds[i + 1]) {
        continue;
      }
      multiply(part.inner_range(bounds[i], bounds[i + 1]), stream);
      for (std::int64_t row = 0; row < part.rows; ++row) {
        sink.add(part.c + row * product.columns, place(row), product.columns);
      }
    }
  }
}

}  // namespace fathom::kernels::cpu
