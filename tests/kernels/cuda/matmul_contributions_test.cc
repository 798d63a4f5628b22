// Weight gradients into sums of integers, by == against contributions made one by one.

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/grouped_matmul.h"
#include "kernels/matmul.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

constexpr int kBits = 40;
constexpr std::int64_t kOld = -12345;  // what each element of a sum that is added to held

// dy [rows, out_size], x [rows, >= in_size] on the CPU, and dw's in_size.
struct Rows {
  Tensor dy;
  Tensor x;
  std::int64_t in_size = 0;
  DType dtype = DType::kFloat32;
};

// One expert's gradient.
struct Expected {
  std::vector<std::int64_t> sums;
  std::int64_t refused = 0;
};

// The sum of one part in float32, as a gradient of floats with those rows alone; its distance from
// the sum in float64 is checked.
std::vector<float> float_sums(const Rows& rows, std::int64_t begin, std::int64_t end,
                              Devices& devices) {
  const std::int64_t out_size = rows.dy.size(1);
  GradientSum dw = float_sum(devices.empty({out_size, rows.in_size}, DType::kFloat32));
  dw.is_empty = true;
  matmul_backward_weight(devices.to_cuda(rows.dy.narrow(begin, end), rows.dtype),
                         devices.to_cuda(rows.x.narrow(begin, end), rows.dtype), dw, devices.cuda);
  const std::vector<float> sums = vector_of(devices.to_cpu(dw.sum));
  const Tensor dy = devices.rounded(rows.dy, rows.dtype);
  const Tensor x = devices.rounded(rows.x, rows.dtype);
  double largest = 0.0;
  for (std::int64_t i = 0; i < dw.sum.numel(); ++i) {
    double want = 0.0;
    for (std::int64_t row = begin; row < end; ++row) {
      want += static_cast<double>(dy.data<float>()[row * out_size + i / rows.in_size]) *
              x.data<float>()[row * x.size(1) + i % rows.in_size];
    }
    const double error = std::abs(sums[static_cast<std::size_t>(i)] - want);
    largest = std::isfinite(want) ? std::max(largest, error) : largest;
  }
  CHECK(largest < 1e-4);
  return sums;
}

// By the definition of kernels/gradient_sum.h: parts are [bounds[i], bounds[i + 1]).
Expected expected(const Rows& rows, const std::vector<std::int64_t>& bounds, float limit,
                  std::int64_t old, Devices& devices) {
  Expected result{
      std::vector<std::int64_t>(static_cast<std::size_t>(rows.dy.size(1) * rows.in_size), old)};
  for (std::size_t part = 0; part + 1 < bounds.size(); ++part) {
    if (bounds[part] == bounds[part + 1]) {
      continue;
    }
    const std::vector<float> sums = float_sums(rows, bounds[part], bounds[part + 1], devices);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      if (std::abs(sums[i]) < limit) {
        result.sums[i] += std::llrint(std::ldexp(static_cast<double>(sums[i]), kBits));
      } else {
        ++result.refused;
      }
    }
  }
  return result;
}

GradientSum integer_sum(const Shape& shape, float limit, bool is_empty, Devices& devices) {
  const std::vector<std::int64_t> old(static_cast<std::size_t>(shape.numel()), kOld);
  GradientSum gradient;
  gradient.sum = devices.to_cuda(tensor_of(old, shape, devices.cpu));
  gradient.num_refused = Tensor::zeros(Shape{1}, DType::kInt64, devices.cuda);
  gradient.fraction_bits = kBits;
  gradient.limit = limit;
  gradient.is_empty = is_empty;
  return gradient;
}

Rows random_rows(std::int64_t num_rows, std::int64_t out_size, std::int64_t in_size, DType dtype,
                 Devices& devices) {
  return {random_tensor({num_rows, out_size}, "dy", devices.cpu),
          random_tensor({num_rows, in_size + 8}, "x", devices.cpu), in_size, dtype};
}

Rows generated_rows(std::int64_t num_rows, Devices& devices) {
  // For tensor cores: less than a tile, and cut ones.
  const auto [out, in, dtype] =
      GENERATE(std::tuple{40, 24, DType::kBFloat16}, std::tuple{136, 200, DType::kBFloat16},
               std::tuple{45, 19, DType::kBFloat16}, std::tuple{70, 65, DType::kFloat32});
  return random_rows(num_rows, out, in, dtype, devices);
}

TEST_CASE("Units of rows are a weight's contributions on CUDA") {
  Devices devices = devices_of_fixed_order();
  const std::int64_t unit = GENERATE(0, 7, 48, 80);
  const std::int64_t num_rows = unit == 0 ? 150 : 3 * unit;
  const Rows rows = generated_rows(num_rows, devices);
  const float limit = GENERATE(10.0F, 400.0F);  // some are above it, or none
  std::vector<std::int64_t> bounds;
  for (std::int64_t row = 0; row <= num_rows; row += unit == 0 ? num_rows : unit) {
    bounds.push_back(row);
  }
  const bool is_empty = GENERATE(true, false);
  const Expected want = expected(rows, bounds, limit, is_empty ? 0 : kOld, devices);
  CHECK((want.refused > 0) == (limit < 100.0F));
  GradientSum found = integer_sum({rows.dy.size(1), rows.in_size}, limit, is_empty, devices);
  found.unit_rows = unit;
  matmul_backward_weight(devices.to_cuda(rows.dy, rows.dtype), devices.to_cuda(rows.x, rows.dtype),
                         found, devices.cuda);
  CHECK(vector_of<std::int64_t>(devices.to_cpu(found.sum)) == want.sums);
  CHECK(vector_of<std::int64_t>(devices.to_cpu(found.num_refused)).front() == want.refused);
}

TEST_CASE("Without rows a weight gets no contribution on CUDA") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const bool is_empty = GENERATE(true, false);
  GradientSum found = integer_sum({16, 8}, 1.0F, is_empty, devices);
  found.unit_rows = GENERATE(0, 5);
  matmul_backward_weight(devices.empty({0, 16}, dtype), devices.empty({0, 8}, dtype), found,
                         devices.cuda);
  CHECK(vector_of<std::int64_t>(devices.to_cpu(found.sum)) ==
        std::vector<std::int64_t>(16 * 8, is_empty ? 0 : kOld));
}

// Three parts an expert: empty ones, at the ends and all of an expert's; some that end at a whole
// panel of 64 rows, and longer ones.
const std::vector<std::int64_t> kPartBounds{0,   48,  48,  60,  60,  60,  60,  60,
                                            124, 125, 225, 225, 256, 257, 257, 300};

TEST_CASE("An expert's parts are its contributions on CUDA") {
  Devices devices = devices_of_fixed_order();
  constexpr std::int64_t kExperts = 5;
  constexpr std::int64_t kParts = 3;
  Rows rows = generated_rows(kPartBounds.back(), devices);
  rows.x = random_tensor({rows.x.size(0), rows.in_size}, "x", devices.cpu);
  // No finite sum in one row of the gradients, and one column, of the parts that have these tokens.
  rows.dy.mutable_data<float>()[59 * rows.dy.size(1) + 3] = std::numeric_limits<float>::quiet_NaN();
  rows.x.mutable_data<float>()[130 * rows.in_size + 5] = std::numeric_limits<float>::infinity();
  const bool is_empty = GENERATE(true, false);
  const float limit = GENERATE(10.0F, 400.0F);
  std::vector<std::int64_t> sums;
  std::int64_t refused = 0;
  for (std::int64_t e = 0; e < kExperts; ++e) {
    const auto first = kPartBounds.begin() + e * kParts;
    const Expected of_expert =
        expected(rows, {first, first + kParts + 1}, limit, is_empty ? 0 : kOld, devices);
    sums.insert(sums.end(), of_expert.sums.begin(), of_expert.sums.end());
    refused += of_expert.refused;
  }
  if (limit > 100.0F) {
    CHECK(refused == rows.in_size + rows.dy.size(1));
  }
  GradientSum found =
      integer_sum({kExperts, rows.dy.size(1), rows.in_size}, limit, is_empty, devices);
  const Tensor bounds = tensor_of(kPartBounds, Shape{kExperts * kParts + 1}, devices.cpu);
  grouped_matmul_backward_weight(devices.to_cuda(rows.dy, rows.dtype),
                                 devices.to_cuda(rows.x, rows.dtype), devices.to_cuda(bounds),
                                 found, devices.cuda);
  CHECK(vector_of<std::int64_t>(devices.to_cpu(found.sum)) == sums);
  CHECK(vector_of<std::int64_t>(devices.to_cpu(found.num_refused)).front() == refused);
}

}  // namespace
}  // namespace fathom::kernels
