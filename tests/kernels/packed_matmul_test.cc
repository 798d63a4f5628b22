#include "kernels/packed_matmul.h"

#include <algorithm>
#include <vector>

#include "kernels/grouped_matmul.h"
#include "kernels/matmul.h"
#include "tests/kernels/product_reference.h"
#include "tests/support/catch.h"

namespace fathom::kernels {
namespace {

TEST_CASE("A product with packed weights has the bits of the product") {
  const auto num_threads = GENERATE(1, 3);
  Stream stream({}, num_threads);
  for (const std::int64_t in : {8, 256, 300, 1040}) {
    for (const std::int64_t out : {1, 16, 33, 128, 200}) {
      const Tensor w = random_tensor({out, in}, "w", stream);
      Tensor packed = random_tensor(packed_shape(w.shape()), "old", stream);
      pack_weight(w, packed, stream);
      for (const std::int64_t rows : {0, 1, 2, 3, 4, 5, 6, 7, 13, 32}) {
        INFO(rows << " rows, " << in << " in, " << out << " out");
        const Tensor x = random_tensor({rows, in + 3}, "x", stream);
        for (const int num_chunks : {1, 4}) {
          Tensor want = random_tensor({rows, out}, "old y", stream);
          Tensor found = random_tensor({rows, out}, "old y", stream);
          matmul_forward(x, w, want, num_chunks, stream);
          packed_matmul_forward(x, packed, found, num_chunks, stream);
          REQUIRE(count_differences(found.values<float>(), want.values<float>()) == 0);
        }
      }
    }
  }
}

TEST_CASE("A product with packed weights follows the scalar definition") {
  Stream stream;
  const Tensor w = random_tensor({50, 300}, "w", stream);
  const Tensor x = random_tensor({3, 300}, "x", stream);
  Tensor packed = Tensor::empty(packed_shape(w.shape()), DType::kFloat32, stream);
  pack_weight(w, packed, stream);
  Tensor y = Tensor::empty({3, 50}, DType::kFloat32, stream);
  packed_matmul_forward(x, packed, y, 1, stream);
  for (std::int64_t i = 0; i < 3; ++i) {
    for (std::int64_t j = 0; j < 50; ++j) {
      REQUIRE(y.data<float>()[i * 50 + j] == reference_element({x.data<float>(), 300, 1},
                                                               {w.data<float>(), 1, 300}, i, j, 300,
                                                               false, 0.0F));
    }
  }
}

TEST_CASE("A grouped product with packed weights has the bits of the grouped product") {
  const auto num_threads = GENERATE(1, 3);
  Stream stream({}, num_threads);
  for (const std::int64_t out : {16, 40}) {
    const Tensor w = random_tensor({4, out, 300}, "w", stream);
    Tensor packed = random_tensor(packed_shape(w.shape()), "old", stream);
    pack_weight(w, packed, stream);
    for (const std::vector<std::int64_t>& bounds : std::vector<std::vector<std::int64_t>>{
             {0, 0, 0, 0, 0}, {0, 1, 1, 9, 12}, {0, 0, 70, 71, 77}}) {
      Tensor offsets = Tensor::empty({5}, DType::kInt64, stream);
      std::copy(bounds.begin(), bounds.end(), offsets.mutable_data<std::int64_t>());
      const Tensor x = random_tensor({bounds.back(), 300}, "x", stream);
      Tensor want = random_tensor({bounds.back(), out}, "old y", stream);
      Tensor found = random_tensor({bounds.back(), out}, "old y", stream);
      grouped_matmul_forward(x, w, offsets, want, stream);
      packed_grouped_matmul_forward(x, packed, offsets, found, stream);
      CHECK(count_differences(found.values<float>(), want.values<float>()) == 0);
    }
  }
}

TEST_CASE("Packed products refuse shapes that do not fit") {
  Stream stream;
  const Tensor w = random_tensor({20, 8}, "w", stream);
  Tensor packed = Tensor::empty(packed_shape(w.shape()), DType::kFloat32, stream);
  CHECK(packed.shape() == Shape{2, 8, 16});
  Tensor small = Tensor::empty({1, 8, 16}, DType::kFloat32, stream);
  CHECK_THROWS_AS(pack_weight(w, small, stream), InternalError);
  const Tensor x = random_tensor({3, 8}, "x", stream);
  Tensor wide = Tensor::empty({3, 33}, DType::kFloat32, stream);
  CHECK_THROWS_AS(packed_matmul_forward(x, packed, wide, 1, stream), InternalError);
  Tensor y = Tensor::empty({3, 20}, DType::kFloat32, stream);
  CHECK_THROWS_AS(packed_matmul_forward(x, packed, y, 3, stream), InternalError);
  const Tensor narrow = random_tensor({3, 7}, "x", stream);
  CHECK_THROWS_AS(packed_matmul_forward(narrow, packed, y, 1, stream), InternalError);
}

TEST_CASE("On the meta device packed products do nothing") {
  Stream stream(Device{DeviceType::kMeta, 0});
  const auto make = [&](const Shape& shape) {
    return Tensor::empty(shape, DType::kFloat32, stream);
  };
  Tensor packed = make({2, 8, 16});
  Tensor y = make({3, 20});
  pack_weight(make({20, 8}), packed, stream);
  packed_matmul_forward(make({3, 8}), packed, y, 1, stream);
  const Tensor offsets = Tensor::empty({2}, DType::kInt64, stream);
  packed_grouped_matmul_forward(make({3, 8}), make({1, 2, 8, 16}), offsets, y, stream);
  CHECK_THROWS_AS(pack_weight(make({20, 9}), packed, stream), InternalError);
}

}  // namespace
}  // namespace fathom::kernels
