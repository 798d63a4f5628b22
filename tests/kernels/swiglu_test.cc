#include "kernels/swiglu.h"

#include <cmath>

#include "tests/kernels/op_reference.h"

namespace fathom::kernels {
namespace {

double silu(double gate) { return gate / (1.0 + std::exp(-gate)); }

}  // namespace

TEST_CASE("SwiGLU is silu(gate) * up and its backward matches finite differences") {
  Stream stream;
  const std::int64_t num_rows = GENERATE(0, 1, 5);
  const std::int64_t size = GENERATE(1, 16, 17, 45);
  const Tensor gate_up = random_tensor(Shape{num_rows, 2 * size}, "gate_up", stream);
  const Tensor dy = random_tensor(Shape{num_rows, size}, "dy", stream);
  Tensor y = Tensor::empty(dy.shape(), DType::kFloat32, stream);
  swiglu_forward(gate_up, y, stream);
  Tensor d_gate_up = Tensor::empty(gate_up.shape(), DType::kFloat32, stream);
  swiglu_backward(dy, gate_up, d_gate_up, stream);

  std::vector<double> want;
  std::vector<double> want_backward(static_cast<std::size_t>(gate_up.numel()));
  for (std::int64_t i = 0; i < num_rows * size; ++i) {
    const std::int64_t place = i / size * 2 * size + i % size;
    const double gate = gate_up.data<float>()[place];
    const double up = gate_up.data<float>()[place + size];
    const double gradient = dy.data<float>()[i];
    want.push_back(silu(gate) * up);
    const auto by_both = finite_differences(
        [=](const std::vector<double>& x) { return gradient * silu(x[0]) * x[1]; }, {gate, up});
    want_backward[static_cast<std::size_t>(place)] = by_both[0];
    want_backward[static_cast<std::size_t>(place + size)] = by_both[1];
  }
  CHECK(largest_error(y, want) < 1e-6);
  CHECK(largest_error(d_gate_up, want_backward) < 1e-6);

  Tensor in_place = tensor_of(vector_of(gate_up), gate_up.shape(), stream);
  swiglu_backward(dy, in_place, in_place, stream);
  CHECK(bytes_of(in_place) == bytes_of(d_gate_up));
}

TEST_CASE("SwiGLU saturates without overflow") {
  Stream stream;
  const Tensor gate_up = tensor_of<float>({200.0F, -200.0F, 2.0F, 3.0F}, Shape{1, 4}, stream);
  Tensor y = Tensor::empty(Shape{1, 2}, DType::kFloat32, stream);
  swiglu_forward(gate_up, y, stream);
  CHECK(vector_of(y) == std::vector<float>{400.0F, -0.0F});
  Tensor d_gate_up = Tensor::empty(gate_up.shape(), DType::kFloat32, stream);
  swiglu_backward(filled(Shape{1, 2}, 1.0F, stream), gate_up, d_gate_up, stream);
  CHECK(vector_of(d_gate_up) == std::vector<float>{2.0F, 0.0F, 200.0F, 0.0F});
}

TEST_CASE("SwiGLU gives the same bits on any number of threads") {
  check_same_bits_on_any_threads([](Stream& stream) {
    const Tensor gate_up = random_tensor(Shape{301, 406}, "gate_up", stream);
    Tensor y = Tensor::empty(Shape{301, 203}, DType::kFloat32, stream);
    swiglu_forward(gate_up, y, stream);
    Tensor d_gate_up = Tensor::empty(gate_up.shape(), DType::kFloat32, stream);
    swiglu_backward(y, gate_up, d_gate_up, stream);
    return std::vector<Tensor>{y, d_gate_up};
  });
}

TEST_CASE("SwiGLU refuses shapes that do not fit") {
  Stream stream;
  const Tensor gate_up = filled(Shape{2, 6}, 1.0F, stream);
  Tensor four = filled(Shape{2, 4}, 1.0F, stream);
  CHECK_THROWS_AS(swiglu_forward(gate_up, four, stream), InternalError);
  const Tensor three = filled(Shape{2, 3}, 1.0F, stream);
  CHECK_THROWS_AS(swiglu_backward(three, gate_up, four, stream), InternalError);
}

}  // namespace fathom::kernels
