// The emulated device's stand-in of cuBLASLt: each element a sum in float32 over the inner
// dimension, in ascending order.

#include <cstring>
#include <vector>

#include "core/bfloat16.h"
#include "core/cuda/queue.h"
#include "cuda_runtime.h"
#include "kernels/cuda/blas.h"

namespace fathom::kernels::cuda {
namespace {

float element(const std::byte* data, DType dtype, std::int64_t index) {
  if (dtype == DType::kFloat32) {
    return reinterpret_cast<const float*>(data)[index];
  }
  return static_cast<float>(reinterpret_cast<const BFloat16*>(data)[index]);
}

// A factor as a whole row-major matrix [num_rows, num_columns] of float32.
std::vector<float> whole(const Factor& factor, DType dtype, std::int64_t num_rows,
                         std::int64_t num_columns) {
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(num_rows * num_columns));
  for (std::int64_t row = 0; row < num_rows; ++row) {
    for (std::int64_t column = 0; column < num_columns; ++column) {
      values.push_back(element(
          factor.data, dtype,
          factor.is_transposed ? column * factor.stride + row : row * factor.stride + column));
    }
  }
  return values;
}

void multiply(const Product& product) {
  const auto [num_rows, num_columns, inner_size] =
      std::tuple(product.num_rows, product.num_columns, product.inner_size);
  const std::vector<float> left = whole(product.left, product.factor_dtype, num_rows, inner_size);
  const std::vector<float> right =
      whole(product.right, product.factor_dtype, inner_size, num_columns);
  std::vector<float> sums(static_cast<std::size_t>(num_columns));
  for (std::int64_t row = 0; row < num_rows; ++row) {
    std::fill(sums.begin(), sums.end(), 0.0F);
    for (std::int64_t k = 0; k < inner_size; ++k) {
      const float factor = left[static_cast<std::size_t>(row * inner_size + k)];
      for (std::int64_t column = 0; column < num_columns; ++column) {
        sums[static_cast<std::size_t>(column)] +=
            factor * right[static_cast<std::size_t>(k * num_columns + column)];
      }
    }
    for (std::int64_t column = 0; column < num_columns; ++column) {
      const std::int64_t place = row * product.output.stride + column;
      const float before = product.output.is_adding
                               ? element(product.output.data, product.output.dtype, place)
                               : 0.0F;
      const float result = before + sums[static_cast<std::size_t>(column)];
      if (product.output.dtype == DType::kFloat32) {
        reinterpret_cast<float*>(product.output.data)[place] = result;
      } else {
        reinterpret_cast<BFloat16*>(product.output.data)[place] = BFloat16(result);
      }
    }
  }
}

// The products of a batch, one by one.
Product of_batch(const Product& product, std::int64_t i) {
  Product result = product;
  result.left.data += i * product.left.batch_stride * size_of(product.factor_dtype);
  result.right.data += i * product.right.batch_stride * size_of(product.factor_dtype);
  result.output.data += i * product.output.batch_stride * size_of(product.output.dtype);
  return result;
}

}  // namespace

void product(const Product& product, Stream& stream) {
  emulator::submit(cuda_queue(stream).stream(), [product] {
    const emulator::MemoryAccess access;
    for (std::int64_t i = 0; i < product.batch_size; ++i) {
      multiply(of_batch(product, i));
    }
  });
}

}  // namespace fathom::kernels::cuda
