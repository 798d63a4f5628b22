#include "kernels/packed_matmul.h"

#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

double sum_tolerance(DType dtype) { return tolerance(dtype) + 5e-5; }

// Packed on the CPU, in float32.
Tensor packed_of(const Tensor& w, Devices& devices) {
  Tensor packed = Tensor::empty(packed_shape(w.shape()), DType::kFloat32, devices.cpu);
  pack_weight(w, packed, devices.cpu);
  return packed;
}

}  // namespace

TEST_CASE("Weights are packed on CUDA as on the CPU") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  for (const Shape& shape :
       {Shape{16, 64}, Shape{1, 1}, Shape{37, 130}, Shape{3, 20, 65}, Shape{0, 8}}) {
    INFO(shape);
    const Tensor w = devices.rounded(random_tensor(shape, "w", devices.cpu), dtype);
    Tensor found = devices.empty(packed_shape(shape), dtype);
    pack_weight(devices.to_cuda(w, dtype), found, devices.cuda);
    CHECK(vector_of(devices.to_cpu(found)) == vector_of(packed_of(w, devices)));
  }
}

TEST_CASE("A product with packed weights on CUDA is that of the CPU") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t rows = GENERATE(0, 1, 2, 4, 5, 19, 64);
  const std::int64_t in = GENERATE(8, 300);
  const std::int64_t out = GENERATE(1, 16, 40);
  const Tensor x = devices.rounded(random_tensor({rows, in + 3}, "x", devices.cpu), dtype);
  const Tensor packed =
      packed_of(devices.rounded(random_tensor({out, in}, "w", devices.cpu), dtype), devices);
  Tensor want = Tensor::empty({rows, out}, DType::kFloat32, devices.cpu);
  packed_matmul_forward(x, packed, want, 4, devices.cpu);
  Tensor found = devices.empty({rows, out}, dtype);
  packed_matmul_forward(devices.to_cuda(x, dtype), devices.to_cuda(packed, dtype), found, 4,
                        devices.cuda);
  CHECK(largest_error(found, want, devices) < sum_tolerance(dtype));
}

TEST_CASE("A grouped product with packed weights on CUDA is that of the CPU") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t out = GENERATE(16, 40);
  const auto bounds =
      GENERATE(std::vector<std::int64_t>{0, 0, 0, 0, 0}, std::vector<std::int64_t>{0, 1, 1, 9, 12},
               std::vector<std::int64_t>{0, 0, 70, 71, 77});
  const Tensor packed =
      packed_of(devices.rounded(random_tensor({4, out, 72}, "w", devices.cpu), dtype), devices);
  const Tensor offsets = tensor_of(bounds, Shape{5}, devices.cpu);
  const Tensor x = devices.rounded(random_tensor({bounds.back(), 72}, "x", devices.cpu), dtype);
  Tensor want = Tensor::empty({bounds.back(), out}, DType::kFloat32, devices.cpu);
  packed_grouped_matmul_forward(x, packed, offsets, want, devices.cpu);
  Tensor found = devices.empty({bounds.back(), out}, dtype);
  packed_grouped_matmul_forward(devices.to_cuda(x, dtype), devices.to_cuda(packed, dtype),
                                devices.to_cuda(offsets), found, devices.cuda);
  CHECK(largest_error(found, want, devices) < sum_tolerance(dtype));
}

TEST_CASE("A product of heads with packed weights on CUDA is that of the CPU") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t rows = GENERATE(0, 1, 6, 33);
  const std::int64_t num_heads = GENERATE(1, 3);
  const std::int64_t x_size = 70;
  const std::int64_t in = 64;
  const std::int64_t out = GENERATE(24, 32);
  const Tensor x =
      devices.rounded(random_tensor({rows, num_heads * x_size}, "x", devices.cpu), dtype);
  const Tensor packed = packed_of(
      devices.rounded(random_tensor({num_heads, out, in}, "w", devices.cpu), dtype), devices);
  Tensor want = Tensor::empty({rows, num_heads * out}, DType::kFloat32, devices.cpu);
  packed_head_matmul_forward(x, packed, want, devices.cpu);
  Tensor found = devices.empty({rows, num_heads * out}, dtype);
  packed_head_matmul_forward(devices.to_cuda(x, dtype), devices.to_cuda(packed, dtype), found,
                             devices.cuda);
  CHECK(largest_error(found, want, devices) < sum_tolerance(dtype));
}

TEST_CASE("Offsets outside the rows touch nothing outside them on CUDA") {
  Devices devices;
  const Tensor packed =
      devices.to_cuda(packed_of(filled(Shape{2, 16, 8}, 1.0F, devices.cpu), devices));
  const Tensor x = devices.to_cuda(filled(Shape{3, 8}, 1.0F, devices.cpu));
  const Tensor offsets = tensor_of<std::int64_t>({-5, 1, 900}, Shape{3}, devices.cpu);
  Tensor y = devices.to_cuda(filled(Shape{5, 16}, -1.0F, devices.cpu));
  Tensor inside = y.narrow(1, 4);
  packed_grouped_matmul_forward(x, packed, devices.to_cuda(offsets), inside, devices.cuda);
  const std::vector<float> found = vector_of(devices.to_cpu(y));
  std::vector<float> want(80, 8.0F);
  std::fill_n(want.begin(), 16, -1.0F);
  std::fill_n(want.end() - 16, 16, -1.0F);
  CHECK(found == want);
}

}  // namespace fathom::kernels
