// The whole CUDA backend in one program, with all libraries that it calls: that it links, starts
// without a driver, and has registered its kernels. With a GPU it multiplies two matrices.

#include <cstdio>
#include <exception>
#include <vector>

#include "core/device_backend.h"
#include "core/host_copy.h"
#include "tests/kernels/slots.h"

namespace fathom {
namespace {

int num_cuda_kernels() {
  int count = 0;
  kernels::for_each_slot([&](const auto& slot) { count += slot.has(DeviceType::kCuda) ? 1 : 0; });
  return count;
}

// x W^T of ones: each element is the inner size.
bool multiplies() {
  constexpr std::int64_t kSize = 256;
  Stream stream(Device{DeviceType::kCuda, 0});
  Tensor x = Tensor::empty(Shape{kSize, kSize}, DType::kBFloat16, stream);
  kernels::fill(x, 1.0F, stream);
  Tensor y = Tensor::empty(x.shape(), DType::kFloat32, stream);
  kernels::matmul_forward(x, x, y, 1, stream);
  return to_host<float>(y, stream) == std::vector<float>(kSize * kSize, static_cast<float>(kSize));
}

int run() {
  const int num_kernels = num_cuda_kernels();
  if (num_kernels == 0) {
    std::puts("the CUDA backend is linked but has registered no kernel");
    return 1;
  }
  if (device_backend(DeviceType::kCuda).num_devices() == 0) {
    std::printf("%d operations have a CUDA kernel; no CUDA device here to run one\n", num_kernels);
    return 0;
  }
  const bool is_right = multiplies();
  std::printf("%d operations have a CUDA kernel; a product on cuda:0 is %s\n", num_kernels,
              is_right ? "right" : "WRONG");
  return is_right ? 0 : 1;
}

}  // namespace
}  // namespace fathom

int main() {
  try {
    return fathom::run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
