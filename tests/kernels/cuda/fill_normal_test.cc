#include "kernels/fill_normal.h"

#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

std::vector<std::byte> filled_bytes(const NormalNumbers& numbers, const Shape& shape, DType dtype,
                                    std::int64_t offset, Stream& stream) {
  Tensor whole = Tensor::zeros(Shape{offset + shape.numel() + 3}, dtype, stream);
  Tensor part = whole.view_elements(offset, shape);
  fill_normal(numbers, part, stream);
  std::vector<std::byte> bytes(static_cast<std::size_t>(whole.size_bytes()));
  copy_to_host(whole, bytes, stream);
  return bytes;
}

}  // namespace

TEST_CASE("fill_normal on CUDA has the bits of the CPU and writes nothing else") {
  Devices devices;
  const RandomSource random(5, "fill_normal");
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t offset = GENERATE(0, 3);
  const Shape shape =
      GENERATE(Shape{1, 1}, Shape{1, 300}, Shape{37, 129}, Shape{70, 256}, Shape{0, 5});
  const std::uint64_t first = GENERATE(std::uint64_t{0}, (std::uint64_t{1} << 40) + 7);
  const NormalNumbers numbers{random, first, 1001, 0.006F};
  CHECK(filled_bytes(numbers, shape, dtype, offset, devices.cuda) ==
        filled_bytes(numbers, shape, dtype, offset, devices.cpu));
}

TEST_CASE("fill_normal on CUDA has the bits of the CPU in many draws and in a far one") {
  Devices devices;
  // A seventh of them take the logarithm.
  const NormalNumbers numbers{RandomSource(6, "fill_normal"), 11, 400, 1.0F};
  CHECK(filled_bytes(numbers, Shape{250, 400}, DType::kFloat32, 0, devices.cuda) ==
        filled_bytes(numbers, Shape{250, 400}, DType::kFloat32, 0, devices.cpu));
  // Number 38179191243 is beyond 6.6 (tests/core/rng_test.cc).
  const NormalNumbers far{RandomSource(1234, "init/golden"), 38179191200, 0, 1.0F};
  CHECK(filled_bytes(far, Shape{1, 99}, DType::kFloat32, 0, devices.cuda) ==
        filled_bytes(far, Shape{1, 99}, DType::kFloat32, 0, devices.cpu));
}

}  // namespace fathom::kernels
