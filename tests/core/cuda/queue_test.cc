#include <vector>

#include "core/host_copy.h"
#include "core/rng.h"
#include "tests/support/catch.h"

namespace fathom {

TEST_CASE("Bytes survive the way to a CUDA device and back, longer than the staging memory too") {
  Stream stream(Device{DeviceType::kCuda, 0});
  const std::int64_t count = GENERATE(0, 1, 1000, (std::int64_t{20} << 20) / 4 + 3);
  const RandomSource random(1, "test/queue");
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<std::int32_t>(random.bits(i));
  }
  Tensor tensor = Tensor::empty(Shape{count}, DType::kInt32, stream);
  from_host<std::int32_t>(values, tensor, stream);
  CHECK((to_host<std::int32_t>(tensor, stream) == values));
}

TEST_CASE(
    "Tensors on a CUDA device begin as zeros where that is asked for, and are aligned to 256") {
  Stream stream(Device{DeviceType::kCuda, 0});
  const Tensor one = Tensor::zeros(Shape{3}, DType::kInt64, stream);
  const Tensor other = Tensor::zeros(Shape{5}, DType::kInt64, stream);
  CHECK((to_host<std::int64_t>(one, stream) == std::vector<std::int64_t>(3, 0)));
  CHECK(reinterpret_cast<std::uintptr_t>(one.raw()) % 256 == 0);
  CHECK(reinterpret_cast<std::uintptr_t>(other.raw()) % 256 == 0);
  CHECK(stream.allocator()->bytes_in_use() == 512);
  CHECK(stream.allocator()->bytes_reserved() >= stream.allocator()->bytes_in_use());
}

TEST_CASE("A CUDA device that is not there and more memory than there is are refused") {
  CHECK_THROWS_AS(Stream(Device{DeviceType::kCuda, 1000}), DeviceError);
  Stream stream(Device{DeviceType::kCuda, 0});
  CHECK_THROWS_AS(Tensor::empty(Shape{std::int64_t{1} << 50}, DType::kFloat32, stream),
                  DeviceError);
  const Tensor small = Tensor::zeros(Shape{1}, DType::kFloat32, stream);
  CHECK((to_host<float>(small, stream) == std::vector<float>{0.0F}));
}

}  // namespace fathom
