#include "core/tensor.h"

#include <numeric>

#include "tests/support/catch.h"

using namespace fathom;

TEST_CASE("views share the storage of their tensor") {
  Stream stream;
  Tensor tensor = Tensor::empty({4, 3}, DType::kFloat32, stream);
  std::iota(tensor.mutable_values<float>().begin(), tensor.mutable_values<float>().end(), 0.0F);
  const Tensor rows = tensor.narrow(1, 3);
  CHECK(rows.shape() == Shape{2, 3});
  CHECK(rows.values<float>()[0] == 3.0F);
  CHECK(tensor.reshape({2, 6}).narrow(1, 2).values<float>()[0] == 6.0F);
  CHECK(tensor.view_elements(5, {2, 2}).values<float>()[3] == 8.0F);
  tensor.mutable_values<float>()[3] = 100.0F;
  CHECK(rows.values<float>()[0] == 100.0F);
}

TEST_CASE("the storage lives as long as its last handle") {
  Stream stream;
  Tensor view;
  {
    Tensor tensor = Tensor::zeros({100}, DType::kInt64, stream);
    tensor.mutable_values<std::int64_t>()[99] = 7;
    view = tensor.view_elements(99, {1});
  }
  CHECK(stream.allocator()->bytes_in_use() == 832);  // 800 in whole 64s
  CHECK(view.values<std::int64_t>()[0] == 7);
  view = Tensor();
  CHECK(stream.allocator()->bytes_in_use() == 0);
}

TEST_CASE("a tensor may outlive its stream") {
  Tensor tensor;
  {
    Stream stream;
    tensor = Tensor::zeros({10}, DType::kFloat32, stream);
  }
  CHECK(tensor.values<float>()[9] == 0.0F);
}

TEST_CASE("wrong dtypes, shapes and ranges are refused") {
  Stream stream;
  const Tensor tensor = Tensor::zeros({4, 3}, DType::kFloat32, stream);
  CHECK_THROWS_AS(tensor.data<std::int32_t>(), InternalError);
  CHECK_THROWS_AS(tensor.reshape({5, 3}), InternalError);
  CHECK_THROWS_AS(tensor.narrow(2, 5), InternalError);
  CHECK_THROWS_AS(tensor.narrow(-1, 2), InternalError);
  CHECK_THROWS_AS(tensor.view_elements(8, {5}), InternalError);
  CHECK_THROWS_AS(tensor.view_elements(-1, {1}), InternalError);
}

TEST_CASE("a meta tensor counts its bytes and holds none") {
  Stream stream({DeviceType::kMeta});
  const Tensor tensor = Tensor::zeros({1 << 20, 1 << 20}, DType::kBFloat16, stream);
  CHECK(tensor.raw() == nullptr);
  CHECK(tensor.size_bytes() == std::int64_t{1} << 41);
  CHECK(stream.allocator()->bytes_in_use() == std::int64_t{1} << 41);
  CHECK(tensor.device() == Device{DeviceType::kMeta});
  CHECK_FALSE(Tensor().defined());
}
