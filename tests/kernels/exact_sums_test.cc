#include "tests/kernels/exact_sums.h"

#include <bit>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "tests/kernels/op_reference.h"

namespace fathom::kernels {
namespace {

float scale_of(const std::vector<double>& sums, const std::vector<std::int64_t>& counts,
               double max_norm) {
  Stream stream;
  Tensor rows = Tensor::empty(Shape{std::ssize(sums), kExactSumIntegers}, DType::kInt64, stream);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    ExactSum sum;
    sum.add(sums[i]);
    std::ranges::copy(sum.to_integers(), rows.mutable_data<std::int64_t>() +
                                             static_cast<std::ptrdiff_t>(i) * kExactSumIntegers);
  }
  Tensor scale = filled(Shape{1}, 9.0F, stream);
  update_scale(rows, tensor_of(counts, Shape{std::ssize(counts)}, stream), max_norm, scale, stream);
  return scale.data<float>()[0];
}

}  // namespace

TEST_CASE("add_exactly loses nothing, takes every stride-th term and the bits of doubles") {
  Stream stream;
  ExactSum before;
  before.add(0.125);
  Tensor sum = tensor_of_sum(before, stream);
  add_exactly(tensor_of<float>({1e30F, 5.0F, 0x1p-140F, 5.0F, -1e30F}, Shape{5}, stream), 0, 2, sum,
              stream);
  CHECK(exact_sum_values(to_host<std::int64_t>(sum, stream))[0] == 0.125);  // rounded
  const auto bits = [](double x) { return std::bit_cast<std::int64_t>(x); };
  add_exactly(tensor_of<std::int64_t>({bits(7.0), bits(-0.125), bits(7.0)}, Shape{3}, stream), 1, 2,
              sum, stream);
  CHECK(exact_sum_values(to_host<std::int64_t>(sum, stream))[0] == 0x1p-140);
  add_exactly(tensor_of<float>({std::numeric_limits<float>::infinity()}, Shape{1}, stream), 0, 1,
              sum, stream);
  CHECK(std::isnan(exact_sum_values(to_host<std::int64_t>(sum, stream))[0]));
}

TEST_CASE("Clipping scales to the largest norm and leaves smaller gradients alone") {
  CHECK(scale_of({16.0}, {0}, 1.0) == 0.25F);
  CHECK(scale_of({0.25, 1e9}, {0, 0}, 1.0) == 1.0F);
  CHECK(scale_of({16.0}, {0}, 0.0) == 1.0F);
  CHECK(scale_of({9e-20}, {}, 1e-10) == static_cast<float>(1e-10 / std::sqrt(9e-20)));
}

TEST_CASE("There is no update where a sum is not finite or something was left out") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(scale_of({nan}, {0}, 1.0)));
  CHECK(std::isnan(scale_of({1.0, 2.0, nan}, {0}, 1.0)));
  CHECK(std::isnan(scale_of({1.0}, {0, 3}, 1.0)));
  CHECK(std::isnan(scale_of({1.0}, {1}, 0.0)));
}

TEST_CASE("An AdamW step with a scale of NaN leaves everything as it is") {
  Stream stream;
  AdamWOptions options;
  options.learning_rate = 1.0;
  options.weight_decay = 0.5;
  options.grad_scale = filled(Shape{1}, std::numeric_limits<float>::quiet_NaN(), stream);
  Tensor weight = filled(Shape{700}, 3.0F, stream);
  Tensor m = filled(Shape{700}, 2.0F, stream);
  Tensor v = filled(Shape{700}, 1.0F, stream);
  const Tensor grad = filled(Shape{700}, std::numeric_limits<float>::quiet_NaN(), stream);
  adamw_step(options, grad, weight, weight, m, v, stream);
  CHECK(vector_of(weight) == std::vector<float>(700, 3.0F));
  CHECK(vector_of(m) == std::vector<float>(700, 2.0F));
  CHECK(vector_of(v) == std::vector<float>(700, 1.0F));
}

}  // namespace fathom::kernels
