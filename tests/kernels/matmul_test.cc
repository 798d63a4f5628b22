#include "kernels/matmul.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "tests/kernels/product_reference.h"
#include "tests/support/catch.h"

namespace fathom::kernels {
namespace {

struct LinearSize {
  std::int64_t num_rows;
  std::int64_t in_size;
  std::int64_t out_size;
};

std::vector<float> reference(const MatrixView& a, const MatrixView& b, std::int64_t rows,
                             std::int64_t columns, std::int64_t inner, bool is_adding,
                             const std::vector<float>& start) {
  std::vector<float> result;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      const auto index = static_cast<std::size_t>(i * columns + j);
      result.push_back(
          reference_element(a, b, i, j, inner, is_adding, start.empty() ? 0.0F : start[index]));
    }
  }
  return result;
}

std::vector<float> values_of(const Tensor& x) {
  const auto values = x.values<float>();
  return {values.begin(), values.end()};
}

// All three products of one shape against the scalar definition; counts differing elements.
std::int64_t count_wrong_elements(const LinearSize& size, Stream& stream) {
  const auto [num_rows, in_size, out_size] = size;
  const Tensor x = random_tensor({num_rows, in_size}, "x", stream);
  const Tensor w = random_tensor({out_size, in_size}, "w", stream);
  const Tensor dy = random_tensor({num_rows, out_size}, "dy", stream);
  const MatrixView x_view{x.data<float>(), in_size, 1};
  const MatrixView w_view{w.data<float>(), in_size, 1};
  const MatrixView w_transposed{w.data<float>(), 1, in_size};
  const MatrixView dy_view{dy.data<float>(), out_size, 1};
  const MatrixView dy_transposed{dy.data<float>(), 1, out_size};

  std::int64_t wrong = 0;
  Tensor y = random_tensor({num_rows, out_size}, "old y", stream);
  matmul_forward(x, w, y, 1, stream);
  wrong += count_differences(
      y.values<float>(), reference(x_view, w_transposed, num_rows, out_size, in_size, false, {}));
  for (const Accumulate accumulate : {Accumulate::kOverwrite, Accumulate::kAdd}) {
    const bool is_adding = accumulate == Accumulate::kAdd;
    Tensor dx = random_tensor({num_rows, in_size}, "old dx", stream);
    const auto dx_want =
        reference(dy_view, w_view, num_rows, in_size, out_size, is_adding, values_of(dx));
    matmul_backward_input(dy, w, dx, {accumulate, 1}, stream);
    wrong += count_differences(dx.values<float>(), dx_want);
  }
  const Tensor dw = random_tensor({out_size, in_size}, "old dw", stream);
  const auto dw_want =
      reference(dy_transposed, x_view, out_size, in_size, num_rows, true, values_of(dw));
  GradientSum dw_sum = float_sum(dw);
  matmul_backward_weight(dy, x, dw_sum, stream);
  wrong += count_differences(dw.values<float>(), dw_want);
  return wrong;
}

TEST_CASE(
    "Every element of a matrix product is the chain of fused multiply-adds that matmul.h defines") {
  const auto num_threads = GENERATE(1, 2, 3, 4);
  Stream stream({}, num_threads);
  // Sizes around the register blocks, the slices of 256, and the shapes of the small model.
  const std::vector<LinearSize> sizes = {
      {1, 1, 1},      {1, 256, 128}, {1, 300, 7},    {2, 3, 5},      {5, 17, 33},   {6, 16, 16},
      {7, 255, 17},   {8, 256, 16},  {13, 257, 31},  {32, 256, 128}, {48, 512, 96}, {49, 513, 95},
      {97, 100, 49},  {31, 700, 1},  {200, 64, 256}, {255, 96, 192}, {256, 80, 50}, {257, 40, 130},
      {512, 128, 64}, {600, 33, 20}, {70, 40, 300},  {40, 600, 280},
  };
  for (const LinearSize& size : sizes) {
    INFO("rows " << size.num_rows << ", in " << size.in_size << ", out " << size.out_size);
    CHECK(count_wrong_elements(size, stream) == 0);
  }
}

TEST_CASE("A row of a product does not depend on the rows around it") {
  Stream stream({}, 2);
  const Tensor x = random_tensor({300, 320}, "x", stream);
  const Tensor w = random_tensor({150, 320}, "w", stream);
  Tensor y = Tensor::empty({300, 150}, DType::kFloat32, stream);
  matmul_forward(x, w, y, 1, stream);
  for (const std::int64_t num_rows : {1, 2, 9, 31, 64, 299}) {
    for (const std::int64_t first : {std::int64_t{0}, 300 - num_rows}) {
      Tensor part = Tensor::empty({num_rows, 150}, DType::kFloat32, stream);
      matmul_forward(x.narrow(first, first + num_rows), w, part, 1, stream);
      CHECK(count_differences(part.values<float>(),
                              y.narrow(first, first + num_rows).values<float>()) == 0);
    }
  }
}

// The tree of matmul.h over chunks [first, first + count), each a product by definition.
float tree_element(const MatrixView& a, const MatrixView& b, std::int64_t row, std::int64_t column,
                   std::int64_t chunk, std::int64_t first, std::int64_t count) {
  if (count == 1) {
    const MatrixView a_part{a.data + first * chunk * a.column_stride, a.row_stride,
                            a.column_stride};
    const MatrixView b_part{b.data + first * chunk * b.row_stride, b.row_stride, b.column_stride};
    return reference_element(a_part, b_part, row, column, chunk, false, 0.0F);
  }
  return tree_element(a, b, row, column, chunk, first, count / 2) +
         tree_element(a, b, row, column, chunk, first + count / 2, count / 2);
}

TEST_CASE("A sum over a cut dimension is a binary tree over its chunks") {
  const auto num_threads = GENERATE(1, 3);
  const auto num_chunks = GENERATE(2, 4, 8);
  Stream stream({}, num_threads);
  // Inner sizes with chunks of less and of more than a slice.
  for (const LinearSize& size : {LinearSize{70, 128, 40}, LinearSize{1, 2304, 33},
                                 LinearSize{9, 8, 700}, LinearSize{600, 512, 16}}) {
    const auto [rows, inner, columns] = size;
    INFO(rows << " x " << inner << " x " << columns << ", " << num_chunks << " chunks");
    const Tensor x = random_tensor({rows, inner}, "x", stream);
    const Tensor w = random_tensor({columns, inner}, "w", stream);
    const Tensor w_rows = random_tensor({inner, columns}, "w rows", stream);
    Tensor y = random_tensor({rows, columns}, "old y", stream);
    Tensor dx = random_tensor({rows, columns + 5}, "old dx", stream);
    matmul_forward(x, w, y, num_chunks, stream);
    matmul_backward_input(x, w_rows, dx, {Accumulate::kOverwrite, num_chunks}, stream);
    const MatrixView a{x.data<float>(), inner, 1};
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        REQUIRE(y.data<float>()[i * columns + j] == tree_element(a, {w.data<float>(), 1, inner}, i,
                                                                 j, inner / num_chunks, 0,
                                                                 num_chunks));
        REQUIRE(dx.data<float>()[i * (columns + 5) + j] ==
                tree_element(a, {w_rows.data<float>(), columns, 1}, i, j, inner / num_chunks, 0,
                             num_chunks));
      }
    }
  }
}

TEST_CASE("Columns of x and dx beyond the inner size are neither used nor touched") {
  Stream stream({}, 2);
  const Tensor wide = random_tensor({70, 40}, "x", stream);
  const Tensor w = random_tensor({20, 32}, "w", stream);
  const Tensor dy = random_tensor({70, 20}, "dy", stream);
  Tensor narrow = Tensor::empty({70, 32}, DType::kFloat32, stream);
  for (std::int64_t i = 0; i < 70; ++i) {
    std::copy_n(wide.data<float>() + i * 40, 32, narrow.mutable_data<float>() + i * 32);
  }

  Tensor y_wide = Tensor::empty({70, 20}, DType::kFloat32, stream);
  Tensor y_narrow = Tensor::empty({70, 20}, DType::kFloat32, stream);
  matmul_forward(wide, w, y_wide, 1, stream);
  matmul_forward(narrow, w, y_narrow, 1, stream);
  CHECK(count_differences(y_wide.values<float>(), y_narrow.values<float>()) == 0);

  GradientSum dw_wide = float_sum(Tensor::zeros({20, 32}, DType::kFloat32, stream));
  GradientSum dw_narrow = float_sum(Tensor::zeros({20, 32}, DType::kFloat32, stream));
  matmul_backward_weight(dy, wide, dw_wide, stream);
  matmul_backward_weight(dy, narrow, dw_narrow, stream);
  CHECK(count_differences(dw_wide.sum.values<float>(), dw_narrow.sum.values<float>()) == 0);

  Tensor dx_wide = random_tensor({70, 40}, "old dx", stream);
  const std::vector<float> before = values_of(dx_wide);
  Tensor dx_narrow = Tensor::empty({70, 32}, DType::kFloat32, stream);
  matmul_backward_input(dy, w, dx_wide, {}, stream);
  matmul_backward_input(dy, w, dx_narrow, {}, stream);
  for (std::size_t i = 0; i < 70; ++i) {
    for (std::size_t j = 0; j < 40; ++j) {
      const float want = j < 32 ? dx_narrow.values<float>()[i * 32 + j] : before[i * 40 + j];
      REQUIRE(dx_wide.values<float>()[i * 40 + j] == want);
    }
  }
}

TEST_CASE("A product over nothing is zero, or adds nothing") {
  Stream stream;
  const Tensor x = Tensor::empty({0, 8}, DType::kFloat32, stream);
  const Tensor dy = Tensor::empty({0, 4}, DType::kFloat32, stream);
  Tensor dw = random_tensor({4, 8}, "old dw", stream);
  const std::vector<float> before = values_of(dw);
  GradientSum dw_sum = float_sum(dw);
  matmul_backward_weight(dy, x, dw_sum, stream);
  CHECK(values_of(dw) == before);
  Tensor y = Tensor::empty({0, 4}, DType::kFloat32, stream);
  matmul_forward(x, dw, y, 1, stream);  // no rows: nothing to do
  const Tensor narrow_x = Tensor::empty({3, 0}, DType::kFloat32, stream);
  const Tensor narrow_w = Tensor::empty({4, 0}, DType::kFloat32, stream);
  Tensor zeros = random_tensor({3, 4}, "old y", stream);
  matmul_forward(narrow_x, narrow_w, zeros, 1, stream);
  CHECK(values_of(zeros) == std::vector<float>(12, 0.0F));
}

TEST_CASE("Matrix products refuse shapes and dtypes that do not fit") {
  Stream stream;
  const Tensor x = random_tensor({3, 8}, "x", stream);
  const Tensor w = random_tensor({4, 8}, "w", stream);
  Tensor y = Tensor::empty({3, 4}, DType::kFloat32, stream);
  Tensor y_short = Tensor::empty({2, 4}, DType::kFloat32, stream);
  Tensor y_wide = Tensor::empty({3, 5}, DType::kFloat32, stream);
  Tensor y_bfloat16 = Tensor::empty({3, 4}, DType::kBFloat16, stream);
  const Tensor x_narrow = random_tensor({3, 7}, "x", stream);
  CHECK_THROWS_AS(matmul_forward(x, w, y_short, 1, stream), InternalError);
  CHECK_THROWS_AS(matmul_forward(x, w, y_wide, 1, stream), InternalError);
  CHECK_THROWS_AS(matmul_forward(x, w, y_bfloat16, 1, stream), InternalError);
  CHECK_THROWS_AS(matmul_forward(x_narrow, w, y, 1, stream), InternalError);
  CHECK_THROWS_AS(matmul_backward_input(y_wide, w, y, {}, stream), InternalError);
  CHECK_THROWS_AS(matmul_forward(x, w, y, 3, stream), InternalError);   // not a power of two
  CHECK_THROWS_AS(matmul_forward(x, w, y, 16, stream), InternalError);  // more than the inner size
}

}  // namespace
}  // namespace fathom::kernels
