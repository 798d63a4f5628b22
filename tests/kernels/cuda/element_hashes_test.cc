#include "kernels/element_hashes.h"

#include "core/rng.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {

TEST_CASE("Hashes of elements on CUDA add up to those of the CPU") {
  Devices devices;
  const DType dtype = GENERATE(DType::kBFloat16, DType::kFloat32, DType::kInt64);
  const Shape shape = GENERATE(Shape{1, 1}, Shape{0, 3}, Shape{1, 4100}, Shape{101, 173});
  const std::int64_t offset = GENERATE(0, 1);
  Tensor all = Tensor::empty(Shape{offset + shape.numel()}, dtype, devices.cpu);
  const RandomSource random(2, "bytes");
  for (std::int64_t i = 0; i < all.size_bytes(); ++i) {
    all.raw()[i] = static_cast<std::byte>(random.bits(static_cast<std::uint64_t>(i)));
  }
  Tensor all_there = devices.empty(all.shape(), dtype);
  copy_from_host({all.raw(), static_cast<std::size_t>(all.size_bytes())}, all_there, devices.cuda);

  const IndexedElements elements{{0x123456789abcdef0U, 0xfedcba9876543211U}, 1U << 20, 1000};
  Tensor sum = tensor_of<std::int64_t>({-5}, Shape{1}, devices.cpu);
  Tensor sum_there = devices.to_cuda(sum);
  add_element_hashes(elements, all.view_elements(offset, shape), sum, devices.cpu);
  add_element_hashes(elements, all_there.view_elements(offset, shape), sum_there, devices.cuda);
  CHECK(to_host<std::int64_t>(sum_there, devices.cuda) == vector_of<std::int64_t>(sum));
}

}  // namespace fathom::kernels
