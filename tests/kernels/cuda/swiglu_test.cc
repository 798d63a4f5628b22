#include "kernels/swiglu.h"

#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {

TEST_CASE("SwiGLU on CUDA is that of the CPU") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t num_rows = GENERATE(0, 1, 5);
  const std::int64_t size = GENERATE(1, 16, 45, 264);
  const Tensor gate_up =
      devices.rounded(random_tensor(Shape{num_rows, 2 * size}, "gate_up", devices.cpu), dtype);
  const Tensor dy = devices.rounded(random_tensor(Shape{num_rows, size}, "dy", devices.cpu), dtype);
  Tensor want = Tensor::empty(dy.shape(), DType::kFloat32, devices.cpu);
  swiglu_forward(gate_up, want, devices.cpu);
  Tensor d_want = Tensor::empty(gate_up.shape(), DType::kFloat32, devices.cpu);
  swiglu_backward(dy, gate_up, d_want, devices.cpu);

  Tensor there = devices.to_cuda(gate_up, dtype);
  Tensor found = devices.empty(dy.shape(), dtype);
  swiglu_forward(there, found, devices.cuda);
  CHECK(largest_error(found, want, devices) < tolerance(dtype));
  swiglu_backward(devices.to_cuda(dy, dtype), there, there, devices.cuda);  // in place
  CHECK(largest_error(there, d_want, devices) < tolerance(dtype));
}

TEST_CASE("SwiGLU on CUDA has the same bits whether rows fit 16-byte accesses or not") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const Tensor gate_up =
      devices.rounded(random_tensor(Shape{3, 2 * 264}, "gate_up", devices.cpu), dtype);
  const Tensor dy = devices.rounded(random_tensor(Shape{3, 264}, "dy", devices.cpu), dtype);
  const auto outputs = [&](const Tensor& gate_up_there, const Tensor& dy_there) {
    Tensor y = devices.empty(dy.shape(), dtype);
    Tensor gradient = devices.empty(gate_up.shape(), dtype);
    swiglu_forward(gate_up_there, y, devices.cuda);
    swiglu_backward(dy_there, gate_up_there, gradient, devices.cuda);
    return std::pair{vector_of(devices.to_cpu(y)), vector_of(devices.to_cpu(gradient))};
  };
  CHECK(outputs(devices.to_cuda_misaligned(gate_up, dtype), devices.to_cuda(dy, dtype)) ==
        outputs(devices.to_cuda(gate_up, dtype), devices.to_cuda(dy, dtype)));
}

TEST_CASE("SwiGLU on CUDA saturates without overflow") {
  Devices devices;
  const Tensor gate_up = tensor_of<float>({200.0F, -200.0F, 2.0F, 3.0F}, Shape{1, 4}, devices.cpu);
  Tensor y = devices.empty(Shape{1, 2}, DType::kFloat32);
  swiglu_forward(devices.to_cuda(gate_up), y, devices.cuda);
  CHECK(vector_of(devices.to_cpu(y)) == std::vector<float>{400.0F, -0.0F});
}

}  // namespace fathom::kernels
