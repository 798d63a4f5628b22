#include "kernels/grouped_matmul.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "tests/kernels/product_reference.h"
#include "tests/support/catch.h"

namespace fathom::kernels {
namespace {

Tensor offsets_tensor(const std::vector<std::int64_t>& values, Stream& stream) {
  Tensor offsets = Tensor::empty({static_cast<std::int64_t>(values.size())}, DType::kInt64, stream);
  std::copy(values.begin(), values.end(), offsets.mutable_data<std::int64_t>());
  return offsets;
}

// Uneven, even, empty at the ends and in the middle, all in one.
std::vector<std::vector<std::int64_t>> offset_cases() {
  return {{0, 5, 5, 205, 209, 300},
          {0, 60, 120, 180, 240, 300},
          {0, 0, 0, 300, 300, 300},
          {0, 1, 3, 290, 300, 300},
          {0, 0, 0, 0, 0, 300}};
}

TEST_CASE("Grouped products are the products of matmul.h expert by expert") {
  constexpr std::int64_t kRows = 300;
  constexpr std::int64_t kIn = 70;
  constexpr std::int64_t kOut = 109;
  const auto num_threads = GENERATE(1, 2, 3, 4);
  Stream stream({}, num_threads);
  const Tensor x = random_tensor({kRows, kIn}, "x", stream);
  const Tensor w = random_tensor({5, kOut, kIn}, "w", stream);
  const Tensor dy = random_tensor({kRows, kOut}, "dy", stream);
  for (const auto& bounds : offset_cases()) {
    const Tensor offsets = offsets_tensor(bounds, stream);
    Tensor y = random_tensor({kRows, kOut}, "old y", stream);
    Tensor dx = random_tensor({kRows, kIn}, "old dx", stream);
    grouped_matmul_forward(x, w, offsets, y, stream);
    grouped_matmul_backward_input(dy, w, offsets, dx, stream);
    for (std::size_t e = 0; e < 5; ++e) {
      const float* const weights = w.data<float>() + e * kOut * kIn;
      for (std::int64_t row = bounds[e]; row < bounds[e + 1]; ++row) {
        for (std::int64_t j = 0; j < kOut; ++j) {
          REQUIRE(y.data<float>()[row * kOut + j] == reference_element({x.data<float>(), kIn, 1},
                                                                       {weights, 1, kIn}, row, j,
                                                                       kIn, false, 0));
        }
        for (std::int64_t j = 0; j < kIn; ++j) {
          REQUIRE(dx.data<float>()[row * kIn + j] == reference_element({dy.data<float>(), kOut, 1},
                                                                       {weights, kIn, 1}, row, j,
                                                                       kOut, false, 0));
        }
      }
    }
  }
}

TEST_CASE("Grouped weight gradients add, an expert without tokens keeps its own") {
  constexpr std::int64_t kRows = 300;
  constexpr std::int64_t kIn = 37;
  constexpr std::int64_t kOut = 109;
  const auto num_threads = GENERATE(1, 2, 3, 4);
  Stream stream({}, num_threads);
  const Tensor x = random_tensor({kRows, kIn}, "x", stream);
  const Tensor dy = random_tensor({kRows, kOut}, "dy", stream);
  const Tensor start = random_tensor({5, kOut, kIn}, "old dw", stream);
  for (const auto& bounds : offset_cases()) {
    const Tensor dw = random_tensor({5, kOut, kIn}, "old dw", stream);
    GradientSum sum = float_sum(dw);
    grouped_matmul_backward_weight(dy, x, offsets_tensor(bounds, stream), sum, stream);
    for (std::size_t e = 0; e < 5; ++e) {
      const MatrixView dy_transposed{dy.data<float>() + bounds[e] * kOut, 1, kOut};
      const MatrixView x_view{x.data<float>() + bounds[e] * kIn, kIn, 1};
      for (std::int64_t i = 0; i < kOut; ++i) {
        for (std::int64_t j = 0; j < kIn; ++j) {
          const auto index = static_cast<std::int64_t>(e) * kOut * kIn + i * kIn + j;
          REQUIRE(dw.data<float>()[index] == reference_element(dy_transposed, x_view, i, j,
                                                               bounds[e + 1] - bounds[e], true,
                                                               start.data<float>()[index]));
        }
      }
    }
  }
}

TEST_CASE("Grouped products refuse offsets and shapes that do not fit") {
  Stream stream;
  const Tensor x = random_tensor({4, 3}, "x", stream);
  const Tensor w = random_tensor({2, 5, 3}, "w", stream);
  Tensor y = Tensor::empty({4, 5}, DType::kFloat32, stream);
  const auto run = [&](const std::vector<std::int64_t>& bounds) {
    grouped_matmul_forward(x, w, offsets_tensor(bounds, stream), y, stream);
  };
  CHECK_NOTHROW(run({0, 4, 4}));
  CHECK_THROWS_AS(run({0, 4}), InternalError);     // one expert too few
  CHECK_THROWS_AS(run({0, 2, 3}), InternalError);  // a row too few
  CHECK_THROWS_AS(run({1, 2, 4}), InternalError);  // not from 0
  CHECK_THROWS_AS(run({0, 5, 4}), InternalError);  // not ascending
  Tensor y_narrow = Tensor::empty({4, 4}, DType::kFloat32, stream);
  CHECK_THROWS_AS(grouped_matmul_forward(x, w, offsets_tensor({0, 2, 4}, stream), y_narrow, stream),
                  InternalError);
}

}  // namespace
}  // namespace fathom::kernels
