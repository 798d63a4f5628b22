#include "kernels/rms_norm.h"

#include <algorithm>
#include <cmath>

#include "tests/kernels/op_reference.h"

namespace fathom::kernels {
namespace {

constexpr float kEpsilon = 1e-3F;  // large, so that forgetting it shows

std::vector<double> normalized(const std::vector<double>& x, double epsilon) {
  double squares = 0.0;
  for (const double value : x) {
    squares += value * value;
  }
  std::vector<double> result = x;
  for (double& value : result) {
    value /= std::sqrt(squares / static_cast<double>(x.size()) + epsilon);
  }
  return result;
}

// Leading columns of a row of a wider tensor.
std::vector<double> row_of(const Tensor& tensor, std::int64_t row, std::int64_t size) {
  const float* first = tensor.data<float>() + row * tensor.size(1);
  return {first, first + size};
}

struct Case {
  std::int64_t num_tokens;
  std::int64_t hidden;
  std::int64_t extra;  // further columns of x, y, dy and dx
};

const std::vector<Case> kCases{{0, 16, 0}, {1, 1, 0},  {1, 16, 3}, {3, 15, 0},
                               {5, 37, 2}, {4, 64, 5}, {2, 147, 0}};

}  // namespace

TEST_CASE("RMSNorm forward is x / rms * gain in the leading columns") {
  Stream stream;
  for (const Case& shape : kCases) {
    INFO(shape.num_tokens << " x " << shape.hidden);
    const Shape wide{shape.num_tokens, shape.hidden + shape.extra};
    const Tensor x = random_tensor(wide, "x", stream);
    const Tensor gain = random_tensor(Shape{shape.hidden}, "gain", stream);
    Tensor y = filled(wide, 9.0F, stream);
    Tensor inv_rms = Tensor::empty(Shape{shape.num_tokens}, DType::kFloat32, stream);
    rms_norm_forward(x, gain, kEpsilon, y, inv_rms, stream);
    std::vector<double> want(static_cast<std::size_t>(y.numel()), 9.0);
    for (std::int64_t token = 0; token < shape.num_tokens; ++token) {
      const std::vector<double> x_hat = normalized(row_of(x, token, shape.hidden), kEpsilon);
      for (std::int64_t c = 0; c < shape.hidden; ++c) {
        want[static_cast<std::size_t>(token * wide[1] + c)] =
            x_hat[static_cast<std::size_t>(c)] * gain.data<float>()[c];
      }
    }
    CHECK(largest_error(y, want) < 1e-6);
    Tensor in_place = tensor_of(vector_of(x), wide, stream);
    rms_norm_forward(in_place, gain, kEpsilon, in_place, inv_rms, stream);
    for (std::int64_t token = 0; token < shape.num_tokens; ++token) {
      CHECK(row_of(in_place, token, shape.hidden) == row_of(y, token, shape.hidden));
    }
  }
}

TEST_CASE("RMSNorm backward matches finite differences") {
  Stream stream;
  for (const Case& shape : kCases) {
    INFO(shape.num_tokens << " x " << shape.hidden);
    const std::int64_t hidden = shape.hidden;
    const Shape wide{shape.num_tokens, hidden + shape.extra};
    const Tensor x = random_tensor(wide, "x", stream);
    const Tensor dy = random_tensor(wide, "dy", stream);
    const Tensor gain = random_tensor(Shape{hidden}, "gain", stream);
    Tensor y = filled(wide, 0.0F, stream);
    Tensor inv_rms = Tensor::empty(Shape{shape.num_tokens}, DType::kFloat32, stream);
    rms_norm_forward(x, gain, kEpsilon, y, inv_rms, stream);
    Tensor dx = filled(wide, 9.0F, stream);
    Tensor gain_grad = random_tensor(Shape{hidden}, "before", stream);
    Tensor gain_grad_in_place = tensor_of(vector_of(gain_grad), gain_grad.shape(), stream);
    std::vector<double> want_gain = doubles(gain_grad);
    GradientSum gain_sum = float_sum(gain_grad);
    rms_norm_backward(dy, {x, gain, inv_rms}, dx, gain_sum, stream);

    std::vector<double> want(static_cast<std::size_t>(dx.numel()), 9.0);
    for (std::int64_t token = 0; token < shape.num_tokens; ++token) {
      const std::vector<double> gradient = row_of(dy, token, hidden);
      const std::vector<double> row = row_of(x, token, hidden);
      const auto loss = [&](const std::vector<double>& input, const std::vector<double>& gains) {
        const std::vector<double> x_hat = normalized(input, kEpsilon);
        double sum = 0.0;
        for (std::size_t c = 0; c < x_hat.size(); ++c) {
          sum += gradient[c] * x_hat[c] * gains[c];
        }
        return sum;
      };
      const auto by_input = finite_differences(
          [&](const std::vector<double>& input) { return loss(input, doubles(gain)); }, row);
      const auto by_gain = finite_differences(
          [&](const std::vector<double>& gains) { return loss(row, gains); }, doubles(gain));
      for (std::int64_t c = 0; c < hidden; ++c) {
        const auto column = static_cast<std::size_t>(c);
        want[static_cast<std::size_t>(token * wide[1] + c)] = by_input[column];
        want_gain[column] += by_gain[column];
      }
    }
    CHECK(largest_error(dx, want) < 2e-6);
    CHECK(largest_error(gain_grad, want_gain) < 2e-6);
    Tensor in_place = tensor_of(vector_of(dy), wide, stream);
    GradientSum sum_in_place = float_sum(gain_grad_in_place);
    rms_norm_backward(in_place, {x, gain, inv_rms}, in_place, sum_in_place, stream);
    for (std::int64_t token = 0; token < shape.num_tokens; ++token) {
      CHECK(row_of(in_place, token, hidden) == row_of(dx, token, hidden));
    }
    CHECK(vector_of(gain_grad_in_place) == vector_of(gain_grad));
  }
}

TEST_CASE("A residual connection with its norm is the sum, and the norm of the sum") {
  Stream stream;
  for (const Case& shape : kCases) {
    INFO(shape.num_tokens << " x " << shape.hidden);
    const std::int64_t hidden = shape.hidden;
    const Shape wide{shape.num_tokens, hidden + shape.extra};
    const Tensor x = random_tensor(wide, "x", stream);
    const Tensor branch = random_tensor(wide, "branch", stream);
    const Tensor gain = random_tensor(Shape{hidden}, "gain", stream);
    Tensor h = tensor_of(vector_of(branch), wide, stream);
    Tensor y = filled(wide, 9.0F, stream);
    Tensor inv_rms = Tensor::empty(Shape{shape.num_tokens}, DType::kFloat32, stream);
    add_rms_norm_forward(x, h, gain, kEpsilon, y, inv_rms, stream);
    std::vector<float> want_h = vector_of(branch);
    std::vector<double> want_y(want_h.size(), 9.0);
    for (std::int64_t token = 0; token < shape.num_tokens; ++token) {
      const auto first = static_cast<std::size_t>(token * wide[1]);
      const auto size = static_cast<std::size_t>(hidden);
      std::vector<double> row;
      for (std::size_t i = first; i < first + size; ++i) {
        want_h[i] += x.data<float>()[i];
        row.push_back(want_h[i]);
      }
      const std::vector<double> x_hat = normalized(row, kEpsilon);
      for (std::size_t c = 0; c < size; ++c) {
        want_y[first + c] = x_hat[c] * gain.data<float>()[c];
      }
    }
    CHECK(vector_of(h) == want_h);
    CHECK(largest_error(y, want_y) < 1e-6);
    // The bits of two operations, which EXACT had before there was one.
    Tensor y_alone = filled(wide, 9.0F, stream);
    Tensor inv_rms_alone = Tensor::empty(inv_rms.shape(), DType::kFloat32, stream);
    rms_norm_forward(h, gain, kEpsilon, y_alone, inv_rms_alone, stream);
    CHECK(vector_of(y) == vector_of(y_alone));
    CHECK(vector_of(inv_rms) == vector_of(inv_rms_alone));
  }
}

TEST_CASE("The backward of a residual connection with its norm matches finite differences") {
  Stream stream;
  for (const Case& shape : kCases) {
    INFO(shape.num_tokens << " x " << shape.hidden);
    const std::int64_t hidden = shape.hidden;
    const Shape wide{shape.num_tokens, hidden + shape.extra};
    const Tensor h = random_tensor(wide, "h", stream);
    const Tensor dy = random_tensor(wide, "dy", stream);
    const Tensor dh = random_tensor(wide, "dh", stream);
    const Tensor gain = random_tensor(Shape{hidden}, "gain", stream);
    Tensor y = filled(wide, 0.0F, stream);
    Tensor inv_rms = Tensor::empty(Shape{shape.num_tokens}, DType::kFloat32, stream);
    rms_norm_forward(h, gain, kEpsilon, y, inv_rms, stream);
    Tensor dx = filled(wide, 9.0F, stream);
    Tensor gain_grad = filled(Shape{hidden}, 2.0F, stream);
    GradientSum gain_sum = float_sum(gain_grad);
    add_rms_norm_backward(dy, {h, gain, inv_rms}, dh, dx, gain_sum, stream);
    std::vector<double> want(static_cast<std::size_t>(dx.numel()), 9.0);
    for (std::int64_t token = 0; token < shape.num_tokens; ++token) {
      const std::vector<double> of_norm = row_of(dy, token, hidden);
      const std::vector<double> of_sum = row_of(dh, token, hidden);
      const std::vector<double> gradient = finite_differences(
          [&](const std::vector<double>& row) {
            const std::vector<double> x_hat = normalized(row, kEpsilon);
            double sum = dot(of_sum, row);
            for (std::size_t c = 0; c < row.size(); ++c) {
              sum += of_norm[c] * x_hat[c] * gain.data<float>()[c];
            }
            return sum;
          },
          row_of(h, token, hidden));
      std::copy(gradient.begin(), gradient.end(), want.begin() + token * wide[1]);
    }
    CHECK(largest_error(dx, want) < 2e-6);
    Tensor in_place = tensor_of(vector_of(dy), wide, stream);
    Tensor gain_grad_in_place = filled(Shape{hidden}, 2.0F, stream);
    GradientSum sum_in_place = float_sum(gain_grad_in_place);
    add_rms_norm_backward(in_place, {h, gain, inv_rms}, dh, in_place, sum_in_place, stream);
    for (std::int64_t token = 0; token < shape.num_tokens; ++token) {
      CHECK(row_of(in_place, token, hidden) == row_of(dx, token, hidden));
    }
    CHECK(vector_of(gain_grad_in_place) == vector_of(gain_grad));
    // The residual connection leaves the gain's gradient as it is.
    Tensor gain_grad_alone = filled(Shape{hidden}, 2.0F, stream);
    GradientSum sum_alone = float_sum(gain_grad_alone);
    rms_norm_backward(dy, {h, gain, inv_rms}, dx, sum_alone, stream);
    CHECK(vector_of(gain_grad_alone) == vector_of(gain_grad));
  }
}

namespace {

// The sum of a[i] * b[i], as docs/numerics.md defines it.
float sum_of_lanes(const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<float> lanes(16, 0.0F);
  for (std::size_t i = 0; i < a.size(); ++i) {
    lanes[i % 16] = std::fma(a[i], b[i], lanes[i % 16]);
  }
  for (std::size_t width = 8; width > 0; width /= 2) {
    for (std::size_t i = 0; i < width; ++i) {
      lanes[i] += lanes[i + width];
    }
  }
  return lanes[0];
}

}  // namespace

TEST_CASE("The sum of squares of RMSNorm goes over 16 lanes and a halving tree") {
  Stream stream;
  const std::int64_t hidden = 53;
  const Tensor x = random_tensor(Shape{1, hidden}, "x", stream);
  Tensor y = Tensor::empty(x.shape(), DType::kFloat32, stream);
  Tensor inv_rms = Tensor::empty(Shape{1}, DType::kFloat32, stream);
  rms_norm_forward(x, filled(Shape{hidden}, 1.0F, stream), kEpsilon, y, inv_rms, stream);
  CHECK(inv_rms.data<float>()[0] ==
        1.0F / std::sqrt(sum_of_lanes(vector_of(x), vector_of(x)) / static_cast<float>(hidden) +
                         kEpsilon));
}

TEST_CASE(
    "RMSNorm backward has the bits of its definition: lanes in a row, tokens in their order") {
  Stream stream({}, 2);
  const std::int64_t hidden = 149;  // columns of whole tiles, of a block and of a part of one
  const Shape shape{7, hidden};
  const Tensor x = random_tensor(shape, "x", stream);
  const Tensor dy = random_tensor(shape, "dy", stream);
  const Tensor gain = random_tensor(Shape{hidden}, "gain", stream);
  const Tensor inv_rms = random_tensor(Shape{7}, "inv_rms", stream);
  std::vector<float> want_dx;
  std::vector<float> want_gain(static_cast<std::size_t>(hidden), 0.0F);
  for (std::int64_t token = 0; token < shape[0]; ++token) {
    const float inverse = inv_rms.data<float>()[token];
    std::vector<float> scaled;
    std::vector<float> x_hat;
    for (std::int64_t c = 0; c < hidden; ++c) {
      const float gradient = dy.data<float>()[token * hidden + c];
      scaled.push_back(gradient * gain.data<float>()[c]);
      x_hat.push_back(x.data<float>()[token * hidden + c] * inverse);
      float& sum = want_gain[static_cast<std::size_t>(c)];
      sum = std::fma(gradient, x_hat.back(), sum);
    }
    const float mean = sum_of_lanes(scaled, x_hat) / static_cast<float>(hidden);
    for (std::size_t c = 0; c < scaled.size(); ++c) {
      want_dx.push_back(inverse * std::fma(-x_hat[c], mean, scaled[c]));
    }
  }
  Tensor dx = Tensor::empty(shape, DType::kFloat32, stream);
  Tensor gain_grad = filled(Shape{hidden}, 0.0F, stream);
  GradientSum gain_sum = float_sum(gain_grad);
  rms_norm_backward(dy, {x, gain, inv_rms}, dx, gain_sum, stream);
  CHECK(vector_of(dx) == want_dx);
  CHECK(vector_of(gain_grad) == want_gain);
}

TEST_CASE("RMSNorm gives the same bits on any number of threads") {
  check_same_bits_on_any_threads([](Stream& stream) {
    const Shape shape{431, 301};
    const Tensor x = random_tensor(shape, "x", stream);
    const Tensor dy = random_tensor(shape, "dy", stream);
    const Tensor gain = random_tensor(Shape{301}, "gain", stream);
    Tensor y = Tensor::empty(shape, DType::kFloat32, stream);
    Tensor inv_rms = Tensor::empty(Shape{431}, DType::kFloat32, stream);
    rms_norm_forward(x, gain, kEpsilon, y, inv_rms, stream);
    Tensor dx = Tensor::empty(shape, DType::kFloat32, stream);
    Tensor gain_grad = filled(Shape{301}, 0.0F, stream);
    GradientSum gain_sum = float_sum(gain_grad);
    rms_norm_backward(dy, {x, gain, inv_rms}, dx, gain_sum, stream);
    Tensor h = random_tensor(shape, "h", stream);
    Tensor y_of_sum = Tensor::empty(shape, DType::kFloat32, stream);
    add_rms_norm_forward(x, h, gain, kEpsilon, y_of_sum, inv_rms, stream);
    Tensor dx_of_sum = Tensor::empty(shape, DType::kFloat32, stream);
    add_rms_norm_backward(dy, {h, gain, inv_rms}, x, dx_of_sum, gain_sum, stream);
    return std::vector<Tensor>{y, inv_rms, dx, gain_grad, h, y_of_sum, dx_of_sum};
  });
}

TEST_CASE("RMSNorm refuses shapes that do not fit") {
  Stream stream;
  Tensor x = filled(Shape{2, 8}, 1.0F, stream);
  Tensor narrow = filled(Shape{2, 7}, 1.0F, stream);
  const Tensor gain = filled(Shape{8}, 1.0F, stream);
  Tensor inv_rms = filled(Shape{2}, 1.0F, stream);
  Tensor short_inv = filled(Shape{1}, 1.0F, stream);
  CHECK_THROWS_AS(rms_norm_forward(narrow, gain, 1e-6F, x, inv_rms, stream), InternalError);
  CHECK_THROWS_AS(rms_norm_forward(x, gain, 1e-6F, narrow, inv_rms, stream), InternalError);
  CHECK_THROWS_AS(rms_norm_forward(x, gain, 1e-6F, x, short_inv, stream), InternalError);
  Tensor gain_grad = filled(Shape{8}, 0.0F, stream);
  GradientSum sum = float_sum(gain_grad);
  Tensor short_grad = filled(Shape{7}, 0.0F, stream);
  GradientSum short_sum = float_sum(short_grad);
  const RmsNormInputs norm{x, gain, inv_rms};
  CHECK_THROWS_AS(rms_norm_backward(narrow, norm, x, sum, stream), InternalError);
  CHECK_THROWS_AS(rms_norm_backward(x, norm, narrow, sum, stream), InternalError);
  CHECK_THROWS_AS(rms_norm_backward(x, {x, gain, short_inv}, x, sum, stream), InternalError);
  CHECK_THROWS_AS(rms_norm_backward(x, norm, x, short_sum, stream), InternalError);
  sum.unit_rows = 3;
  CHECK_THROWS_AS(rms_norm_backward(x, norm, x, sum, stream), InternalError);
  sum.unit_rows = 0;
  CHECK_THROWS_AS(add_rms_norm_forward(x, narrow, gain, 1e-6F, x, inv_rms, stream), InternalError);
  CHECK_THROWS_AS(add_rms_norm_forward(x, x, gain, 1e-6F, narrow, inv_rms, stream), InternalError);
  CHECK_THROWS_AS(add_rms_norm_backward(x, norm, narrow, x, sum, stream), InternalError);
  CHECK_THROWS_AS(add_rms_norm_backward(x, norm, x, x, short_sum, stream), InternalError);
}

}  // namespace fathom::kernels
