#include "kernels/element_hashes.h"

#include <cstring>

#include "core/error.h"
#include "core/rng.h"
#include "tests/kernels/op_reference.h"

namespace fathom::kernels {
namespace {

// High and low half of the product, by halves of the factors.
std::uint64_t folded(std::uint64_t a, std::uint64_t b) {
  constexpr std::uint64_t kLow = 0xffffffffU;
  const std::uint64_t low = (a & kLow) * (b & kLow);
  const std::uint64_t middle = (a >> 32) * (b & kLow) + (low >> 32);
  const std::uint64_t other = (a & kLow) * (b >> 32) + (middle & kLow);
  return ((a >> 32) * (b >> 32) + (middle >> 32) + (other >> 32)) ^ (a * b);
}

// As the header says, element by element.
template <class Bits>
std::uint64_t wanted(const IndexedElements& elements, const Tensor& x) {
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    Bits bits;
    std::memcpy(&bits, x.raw() + i * static_cast<std::int64_t>(sizeof(Bits)), sizeof(Bits));
    const std::uint64_t index = elements.first +
                                static_cast<std::uint64_t>(i / x.size(1)) * elements.row_stride +
                                static_cast<std::uint64_t>(i % x.size(1));
    sum +=
        folded(folded(index ^ elements.hash.high, 0x9e3779b97f4a7c15U) ^ bits, elements.hash.low);
  }
  return sum;
}

}  // namespace

TEST_CASE("add_element_hashes adds the hash of every element, whatever the threads") {
  Stream stream({}, GENERATE(1, 2, 3));
  const DType dtype = GENERATE(DType::kBFloat16, DType::kFloat32, DType::kInt64);
  const Shape shape = GENERATE(Shape{1, 1}, Shape{0, 3}, Shape{301, 173});
  Tensor x = Tensor::empty(shape, dtype, stream);
  const RandomSource random(2, "bytes");
  for (std::int64_t i = 0; i < x.size_bytes(); ++i) {
    x.raw()[i] = static_cast<std::byte>(random.bits(static_cast<std::uint64_t>(i)));
  }
  const IndexedElements elements{{0x123456789abcdef0U, 0xfedcba9876543211U}, 1U << 20, 1000};
  Tensor sum = tensor_of<std::int64_t>({-5}, Shape{1}, stream);
  add_element_hashes(elements, x, sum, stream);
  const std::uint64_t want = dtype == DType::kBFloat16  ? wanted<std::uint16_t>(elements, x)
                             : dtype == DType::kFloat32 ? wanted<std::uint32_t>(elements, x)
                                                        : wanted<std::uint64_t>(elements, x);
  CHECK(static_cast<std::uint64_t>(vector_of<std::int64_t>(sum)[0]) == want - 5);
}

TEST_CASE("add_element_hashes refuses another sum") {
  Stream stream;
  const Tensor x = Tensor::zeros(Shape{2, 3}, DType::kFloat32, stream);
  Tensor floats = Tensor::zeros(Shape{1}, DType::kFloat32, stream);
  CHECK_THROWS_AS(add_element_hashes({}, x, floats, stream), InternalError);
}

}  // namespace fathom::kernels
