#include "kernels/gradient_sum.h"

#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/gradient_operations.h"

namespace fathom::kernels {
namespace {

// A float times a power of two is exact in double, and so is rounding it to an integer.
std::int64_t rounded(float x, int fraction_bits) {
  return static_cast<std::int64_t>(
      std::nearbyint(std::ldexp(static_cast<double>(x), fraction_bits)));
}

// Adds one row of contributions by way of the embedding, whose contributions are its input.
void add_row(const std::vector<float>& row, GradientSum& gradient, Stream& stream) {
  const auto size = static_cast<std::int64_t>(row.size());
  const Tensor token = Tensor::zeros(Shape{1}, DType::kInt32, stream);
  embedding_backward(token, tensor_of(row, Shape{1, size}, stream), 0, gradient, stream);
}

std::vector<std::int64_t> sums_of(const GradientSum& gradient) {
  const auto values = gradient.sum.values<std::int64_t>();
  return {values.begin(), values.end()};
}

std::int64_t refused_by(const GradientSum& gradient) {
  return gradient.num_refused.values<std::int64_t>()[0];
}

}  // namespace

TEST_CASE("A contribution is rounded once to a multiple of 2^-fraction_bits, ties to even") {
  Stream stream;
  const int bits = GENERATE(32, 40, 56, 60);
  const float limit = contribution_limit(bits, 1);
  std::vector<float> row;
  const RandomSource random(1, "contributions");
  for (std::uint64_t i = 0; i < 4000; ++i) {
    const int exponent = static_cast<int>(random.below(2 * i, 90)) - 80;
    const auto x = static_cast<float>(std::ldexp(random.normal(2 * i + 1), exponent));
    row.push_back(std::abs(x) < limit ? x : 0.0F);
  }
  const auto unit = static_cast<float>(std::ldexp(1.0, -bits));
  for (const float ties : {0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 0.25F, 0.75F}) {
    row.push_back(ties * unit);
  }
  // Ties between two multiples of 2^31 units, where the two halves of the integer meet.
  for (const float ties : {0.5F, 1.5F, -0.5F, -2.5F}) {
    row.push_back(ties * unit * 0x1p31F);
  }
  row.push_back(std::nextafter(limit, 0.0F));
  row.push_back(-std::nextafter(limit, 0.0F));
  row.push_back(std::numeric_limits<float>::denorm_min());
  GradientSum gradient =
      integer_sum({1, static_cast<std::int64_t>(row.size())}, bits, limit, stream);
  add_row(row, gradient, stream);
  CHECK(refused_by(gradient) == 0);
  for (std::size_t i = 0; i < row.size(); ++i) {
    INFO(row[i] << " at " << i);
    REQUIRE(sums_of(gradient)[i] == rounded(row[i], bits));
  }
}

TEST_CASE(
    "What is not below the limit is refused, counted and left out, on whole and part blocks") {
  Stream stream;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float limit = contribution_limit(56, 1000);
  const std::vector<float> bad{limit, -limit, kInfinity, -kInfinity, std::nanf("")};
  for (const std::int64_t size : {5, 16, 21, 40}) {
    std::vector<float> row(static_cast<std::size_t>(size), 0.0625F);
    for (std::size_t i = 0; i < bad.size(); ++i) {
      row[row.size() - 1 - i] = bad[i];
    }
    GradientSum gradient = integer_sum({1, size}, 56, limit, stream);
    add_row(row, gradient, stream);
    add_row(row, gradient, stream);
    CHECK(refused_by(gradient) == 10);
    for (std::size_t i = 0; i < row.size(); ++i) {
      CHECK(sums_of(gradient)[i] == (i + 5 < row.size() ? std::int64_t{1} << 53 : 0));
    }
  }
}

TEST_CASE("As many contributions as the limit allows for cannot wrap the sum") {
  for (const int bits : {32, 48, 56, 60}) {
    for (const std::int64_t count :
         {std::int64_t{1}, std::int64_t{3}, std::int64_t{1000}, std::int64_t{1} << 30}) {
      const float limit = contribution_limit(bits, count);
      const auto largest = static_cast<long double>(rounded(std::nextafter(limit, 0.0F), bits));
      CHECK(largest * static_cast<long double>(count) <=
            static_cast<long double>(std::numeric_limits<std::int64_t>::max()));
      // And it is no smaller than need be.
      CHECK(static_cast<double>(limit) * static_cast<double>(std::max<std::int64_t>(2, count)) >
            0.999 * std::ldexp(1.0, 63 - bits));
    }
  }
}

TEST_CASE("An integer sum becomes a float32 with one rounding, in place too") {
  const auto num_threads = GENERATE(1, 3);
  Stream stream({}, num_threads);
  const RandomSource random(2, "sums");
  const std::int64_t count = GENERATE(1, 1000, 100'003);
  Tensor sum = Tensor::empty(Shape{count}, DType::kInt64, stream);
  const auto sums = sum.mutable_values<std::int64_t>();
  for (std::size_t i = 0; i < sums.size(); ++i) {
    sums[i] = static_cast<std::int64_t>(random.bits(i)) >> (i % 60);
  }
  // Rounded to double first, it would lie on a tie of float32 and round the wrong way.
  sums[0] = (std::int64_t{1} << 60) + (std::int64_t{1} << 36) + 1;
  std::vector<float> want;
  for (const std::int64_t x : sums) {
    // 64 bits of mantissa: x is exact.
    want.push_back(std::ldexp(static_cast<float>(static_cast<long double>(x)), -56));
  }
  Tensor apart = Tensor::empty(Shape{count}, DType::kFloat32, stream);
  round_gradient(sum, 56, apart, stream);
  CHECK(count_differences(apart.values<float>(), want) == 0);
  Tensor in_place = sum.view_as(DType::kFloat32, Shape{count});
  round_gradient(sum, 56, in_place, stream);
  CHECK(count_differences(in_place.values<float>(), want) == 0);
}

TEST_CASE("A weight gradient is the sum of its units, in any order and on any threads") {
  const auto num_threads = GENERATE(1, 2, 3);
  Stream stream({}, num_threads);
  constexpr std::int64_t kUnit = 300;  // more than a slice
  for (const auto& [in, out] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {37, 109}, {64, 16}, {300, 70}, {20, 600}, {600, 20}}) {
    INFO(in << " in, " << out << " out");
    const Tensor x = random_tensor({3 * kUnit, in}, "x", stream);
    const Tensor dy = random_tensor({3 * kUnit, out}, "dy", stream);
    GradientSum together = integer_sum({out, in}, 40, contribution_limit(40, 3), stream);
    together.unit_rows = kUnit;
    matmul_backward_weight(dy, x, together, stream);
    GradientSum apart = integer_sum({out, in}, 40, contribution_limit(40, 3), stream);
    for (const std::int64_t unit : {2, 0, 1}) {
      matmul_backward_weight(dy.narrow(unit * kUnit, (unit + 1) * kUnit),
                             x.narrow(unit * kUnit, (unit + 1) * kUnit), apart, stream);
    }
    CHECK(sums_of(together) == sums_of(apart));
    std::vector<std::int64_t> want;
    for (std::int64_t i = 0; i < out; ++i) {
      for (std::int64_t j = 0; j < in; ++j) {
        std::int64_t sum = 0;
        for (std::int64_t unit = 0; unit < 3; ++unit) {
          sum += rounded(reference_element({dy.data<float>() + unit * kUnit * out, 1, out},
                                           {x.data<float>() + unit * kUnit * in, in, 1}, i, j,
                                           kUnit, false, 0),
                         40);
        }
        want.push_back(sum);
      }
    }
    CHECK(sums_of(together) == want);
  }
}

TEST_CASE("An expert's gradient is the sum of its parts, empty ones too") {
  const auto num_threads = GENERATE(1, 2, 3);
  Stream stream({}, num_threads);
  constexpr std::int64_t kIn = 37;
  constexpr std::int64_t kOut = 109;
  const std::vector<std::int64_t> bounds{0, 5, 5, 90, 90, 90, 90, 91, 300};  // 2 experts, 4 parts
  const Tensor x = random_tensor({300, kIn}, "x", stream);
  const Tensor dy = random_tensor({300, kOut}, "dy", stream);
  Tensor offsets = Tensor::empty(Shape{9}, DType::kInt64, stream);
  std::copy(bounds.begin(), bounds.end(), offsets.mutable_data<std::int64_t>());
  GradientSum gradient = integer_sum({2, kOut, kIn}, 40, contribution_limit(40, 4), stream);
  grouped_matmul_backward_weight(dy, x, offsets, gradient, stream);
  for (std::int64_t e = 0; e < 2; ++e) {
    GradientSum want = integer_sum({kOut, kIn}, 40, contribution_limit(40, 4), stream);
    for (std::size_t part = 0; part < 4; ++part) {
      const std::int64_t first = bounds[static_cast<std::size_t>(e) * 4 + part];
      const std::int64_t last = bounds[static_cast<std::size_t>(e) * 4 + part + 1];
      matmul_backward_weight(dy.narrow(first, last), x.narrow(first, last), want, stream);
    }
    const auto found = gradient.sum.narrow(e, e + 1).reshape({kOut * kIn});
    const auto values = found.values<std::int64_t>();
    CHECK(std::vector<std::int64_t>(values.begin(), values.end()) == sums_of(want));
  }
}

TEST_CASE("A gain's gradient is the sum of its units") {
  Stream stream({}, 2);
  constexpr std::int64_t kHidden = 150;
  const Tensor x = random_tensor({24, kHidden}, "x", stream);
  const Tensor dy = random_tensor({24, kHidden}, "dy", stream);
  const Tensor gain = random_tensor({kHidden}, "gain", stream);
  const Tensor inv_rms = random_tensor({24}, "inv_rms", stream);
  Tensor dx = Tensor::empty({24, kHidden}, DType::kFloat32, stream);
  GradientSum together = integer_sum({kHidden}, 40, contribution_limit(40, 3), stream);
  together.unit_rows = 8;
  rms_norm_backward(dy, {x, gain, inv_rms}, dx, together, stream);
  std::vector<std::int64_t> want(kHidden, 0);
  for (std::int64_t unit = 0; unit < 3; ++unit) {
    Tensor sum = Tensor::zeros({kHidden}, DType::kFloat32, stream);
    GradientSum floats = float_sum(sum);
    const auto rows = [&](const Tensor& tensor) { return tensor.narrow(unit * 8, unit * 8 + 8); };
    Tensor dx_of_unit = rows(dx);
    rms_norm_backward(rows(dy), {rows(x), gain, rows(inv_rms)}, dx_of_unit, floats, stream);
    for (std::size_t i = 0; i < want.size(); ++i) {
      want[i] += rounded(sum.values<float>()[i], 40);
    }
  }
  CHECK(sums_of(together) == want);
}

TEST_CASE(
    "An empty sum becomes what zeros become, whatever the memory holds, then it is added to") {
  const auto num_threads = GENERATE(1, 3);
  Stream stream({}, num_threads);
  const DType dtype = GENERATE(DType::kFloat32, DType::kInt64);
  const std::int64_t unit_rows = GENERATE(0, 4);
  const std::int64_t num_rows = GENERATE(0, 24);
  const auto sum_of = [&](const Shape& shape, std::byte value) {
    GradientSum sum = integer_sum(shape, 40, contribution_limit(40, 100), stream);
    sum.sum = Tensor::empty(shape, dtype, stream);
    std::fill_n(sum.sum.raw(), sum.sum.size_bytes(), value);
    sum.unit_rows = unit_rows;
    return sum;
  };
  const auto here = [](const Tensor& tensor, bool) { return tensor; };
  for (const GradientOperation& operation : gradient_operations(num_rows, 37, 109, here, stream)) {
    INFO(operation.name << " of " << num_rows << " rows in units of " << unit_rows);
    GradientSum want = sum_of(operation.shape, std::byte{0});
    GradientSum found = sum_of(operation.shape, std::byte{0xff});  // NaN, or -1
    found.is_empty = true;
    for (int i = 0; i < 2; ++i) {
      operation.add(want, stream);
      operation.add(found, stream);
      CHECK_FALSE(found.is_empty);
      CHECK(bytes_of(found.sum) == bytes_of(want.sum));
    }
    CHECK(refused_by(found) == 0);
  }
}

TEST_CASE("A gradient sum refuses shapes, limits and rows that do not fit") {
  Stream stream;
  const Tensor x = random_tensor({6, 8}, "x", stream);
  const Tensor dy = random_tensor({6, 4}, "dy", stream);
  GradientSum gradient = integer_sum({4, 8}, 56, contribution_limit(56, 6), stream);
  gradient.unit_rows = 4;
  CHECK_THROWS_AS(matmul_backward_weight(dy, x, gradient, stream), InternalError);
  gradient.unit_rows = 3;
  matmul_backward_weight(dy, x, gradient, stream);
  gradient.limit = 2 * contribution_limit(56, 1);
  CHECK_THROWS_AS(matmul_backward_weight(dy, x, gradient, stream), InternalError);
  gradient.limit = 0.0F;
  CHECK_THROWS_AS(matmul_backward_weight(dy, x, gradient, stream), InternalError);
  GradientSum wide = integer_sum({4, 9}, 56, contribution_limit(56, 6), stream);
  CHECK_THROWS_AS(matmul_backward_weight(dy, x, wide, stream), InternalError);
}

}  // namespace fathom::kernels
