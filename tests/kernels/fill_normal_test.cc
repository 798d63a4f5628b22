#include "kernels/fill_normal.h"

#include <vector>

#include "core/error.h"
#include "tests/kernels/op_reference.h"

namespace fathom::kernels {
namespace {

constexpr std::int64_t kRows = 31, kColumns = 77;
constexpr std::uint64_t kFirst = (std::uint64_t{1} << 33) + 5, kStride = 1000;
constexpr float kDeviation = 0.02F;

// Element by element, as the header says.
template <class T>
std::vector<float> wanted(const RandomSource& random) {
  std::vector<float> values;
  for (std::uint64_t i = 0; i < kRows; ++i) {
    for (std::uint64_t j = 0; j < kColumns; ++j) {
      const float number = random.normal(kFirst + i * kStride + j);
      values.push_back(static_cast<float>(static_cast<T>(kDeviation * number)));
    }
  }
  return values;
}

template <class T>
std::vector<float> found(const RandomSource& random, int num_threads) {
  Stream stream({}, num_threads);
  Tensor x = Tensor::empty(Shape{kRows, kColumns}, kDTypeOf<T>, stream);
  fill_normal({random, kFirst, kStride, kDeviation}, x, stream);
  const auto values = x.values<T>();
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("fill_normal takes the numbers of a part of a matrix, whatever the threads") {
  const RandomSource random(3, "fill_normal");
  const int num_threads = GENERATE(1, 2, 3);
  CHECK(found<float>(random, num_threads) == wanted<float>(random));
  CHECK(found<BFloat16>(random, num_threads) == wanted<BFloat16>(random));
}

TEST_CASE("fill_normal refuses what it does not fill, and takes what is empty") {
  const RandomSource random(3, "fill_normal");
  Stream stream;
  Tensor integers = Tensor::zeros(Shape{2, 3}, DType::kInt32, stream);
  CHECK_THROWS_AS(fill_normal({random}, integers, stream), InternalError);
  Tensor row = Tensor::zeros(Shape{3}, DType::kFloat32, stream);
  CHECK_THROWS_AS(fill_normal({random}, row, stream), InternalError);
  Tensor none = Tensor::zeros(Shape{0, 3}, DType::kFloat32, stream);
  fill_normal({random}, none, stream);
  Stream meta(Device{DeviceType::kMeta, 0});
  Tensor nowhere = Tensor::empty(Shape{2, 3}, DType::kBFloat16, meta);
  fill_normal({random}, nowhere, meta);
}

}  // namespace fathom::kernels
