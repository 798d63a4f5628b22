#include "kernels/elementwise.h"

#include "tests/kernels/op_reference.h"

namespace fathom::kernels {

TEST_CASE("add sums element by element at any size, also onto an input") {
  Stream stream;
  const std::int64_t size = GENERATE(0, 1, 15, 16, 33, 1000);
  const Tensor a = random_tensor(Shape{size}, "a", stream);
  const Tensor b = random_tensor(Shape{size}, "b", stream);
  Tensor out = Tensor::empty(Shape{size}, DType::kFloat32, stream);
  add(a, b, out, stream);
  for (std::int64_t i = 0; i < size; ++i) {
    REQUIRE(out.data<float>()[i] == a.data<float>()[i] + b.data<float>()[i]);
  }
  Tensor in_place = tensor_of(vector_of(a), Shape{size}, stream);
  add(in_place, b, in_place, stream);
  CHECK(vector_of(in_place) == vector_of(out));
  Tensor added = tensor_of(vector_of(a), Shape{size}, stream);
  add_in_place(added, b, stream);
  CHECK(vector_of(added) == vector_of(out));
}

TEST_CASE("add_in_place takes int64 beyond the range of doubles") {
  Stream stream;
  const std::int64_t large = (std::int64_t{1} << 60) + 1;
  Tensor sum = tensor_of<std::int64_t>({large, -5, 0}, Shape{3}, stream);
  const Tensor other = tensor_of<std::int64_t>({large, 3, -1}, Shape{3}, stream);
  add_in_place(sum, other, stream);
  CHECK(vector_of<std::int64_t>(sum) == std::vector<std::int64_t>{2 * large, -2, -1});
}

TEST_CASE("scale and fill") {
  Stream stream;
  Tensor x = tensor_of<float>({1, -2, 3}, Shape{3}, stream);
  scale(x, 0.5F, stream);
  CHECK(vector_of(x) == std::vector<float>{0.5F, -1.0F, 1.5F});
  fill(x, -7.25F, stream);
  CHECK(vector_of(x) == std::vector<float>(3, -7.25F));
  Tensor halves = Tensor::empty(Shape{5}, DType::kBFloat16, stream);
  fill(halves, 1.00390625F, stream);  // between 1 and 1 + 2^-7: a tie, to even
  CHECK(static_cast<float>(halves.data<BFloat16>()[4]) == 1.0F);
  Tensor integers = Tensor::empty(Shape{2}, DType::kInt64, stream);
  fill(integers, -3.0F, stream);
  CHECK(vector_of<std::int64_t>(integers) == std::vector<std::int64_t>{-3, -3});
  Tensor small = Tensor::empty(Shape{2}, DType::kInt32, stream);
  fill(small, 9.0F, stream);
  CHECK(vector_of<std::int32_t>(small) == std::vector<std::int32_t>{9, 9});
}

TEST_CASE("convert rounds to the nearest bfloat16, ties to even, and back exactly") {
  Stream stream;
  const float above_one = 1.0F + 0x1p-7F;  // the bfloat16 after 1
  const Tensor from = tensor_of<float>(
      {1.0F + 0x1p-8F, above_one + 0x1p-8F, 1.0F + 0x1.8p-8F, -0.0F, 3.0e38F}, Shape{5}, stream);
  Tensor to = Tensor::empty(Shape{5}, DType::kBFloat16, stream);
  Tensor back = Tensor::empty(Shape{5}, DType::kFloat32, stream);
  convert(from, to, stream);
  convert(to, back, stream);
  CHECK(back.data<float>()[0] == 1.0F);
  CHECK(back.data<float>()[1] == 1.0F + 0x1p-6F);
  CHECK(back.data<float>()[2] == above_one);
  CHECK(std::signbit(back.data<float>()[3]));
  CHECK(std::abs(back.data<float>()[4] / 3.0e38F - 1.0F) < 0x1p-8F);
  Tensor same = Tensor::empty(Shape{5}, DType::kFloat32, stream);
  convert(from, same, stream);
  CHECK(bytes_of(same) == bytes_of(from));
}

TEST_CASE("copy_columns writes its columns and no others") {
  Stream stream;
  const std::int64_t rows = GENERATE(0, 1, 5);
  const Tensor from = random_tensor(Shape{rows, 7}, "from", stream);
  Tensor to = filled(Shape{rows, 5}, -1.0F, stream);
  copy_columns(from, 3, to, 1, 3, stream);
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* line = to.data<float>() + row * 5;
    CHECK(line[0] == -1.0F);
    CHECK(line[4] == -1.0F);
    for (int c = 0; c < 3; ++c) {
      CHECK(line[1 + c] == from.data<float>()[row * 7 + 3 + c]);
    }
  }
  CHECK_THROWS_AS(copy_columns(from, 5, to, 0, 3, stream), InternalError);
}

TEST_CASE("Element-wise operations give the same bits on any number of threads") {
  check_same_bits_on_any_threads([](Stream& stream) {
    const Shape shape{200001};
    const Tensor a = random_tensor(shape, "a", stream);
    const Tensor b = random_tensor(shape, "b", stream);
    Tensor sum = Tensor::empty(shape, DType::kFloat32, stream);
    add(a, b, sum, stream);
    Tensor scaled = Tensor::empty(shape, DType::kFloat32, stream);
    copy(a, scaled, stream);
    add_in_place(scaled, b, stream);
    scale(scaled, 1.1F, stream);
    Tensor halves = Tensor::empty(shape, DType::kBFloat16, stream);
    convert(sum, halves, stream);
    Tensor columns = filled(Shape{200001, 2}, 0.0F, stream);
    copy_columns(a.reshape(Shape{200001, 1}), 0, columns, 1, 1, stream);
    Tensor constant = Tensor::empty(shape, DType::kInt32, stream);
    fill(constant, 4.0F, stream);
    return std::vector<Tensor>{sum, scaled, halves, columns, constant};
  });
}

TEST_CASE("Element-wise operations refuse other sizes, dtypes and devices") {
  Stream stream;
  Stream meta(Device{DeviceType::kMeta, 0});
  Tensor three = filled(Shape{3}, 1.0F, stream);
  Tensor four = filled(Shape{4}, 1.0F, stream);
  Tensor integers = Tensor::zeros(Shape{3}, DType::kInt64, stream);
  Tensor elsewhere = Tensor::empty(Shape{3}, DType::kFloat32, meta);
  CHECK_THROWS_AS(add(three, four, three, stream), InternalError);
  CHECK_THROWS_AS(add(three, three, four, stream), InternalError);
  CHECK_THROWS_AS(add(integers, integers, integers, stream), InternalError);
  CHECK_THROWS_AS(add_in_place(three, integers, stream), InternalError);
  CHECK_THROWS_AS(copy(three, integers, stream), InternalError);
  CHECK_THROWS_AS(convert(integers, three, stream), InternalError);
  CHECK_THROWS_AS(add_in_place(three, elsewhere, stream), InternalError);
  add_in_place(elsewhere, elsewhere, meta);  // checked, then nothing
}

}  // namespace fathom::kernels
