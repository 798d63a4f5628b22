#include "kernels/embedding.h"

#include "tests/kernels/op_reference.h"

namespace fathom::kernels {

TEST_CASE("embedding_forward takes rows of the table and zeros outside it") {
  Stream stream;
  const Tensor table = random_tensor(Shape{4, 19}, "table", stream);
  const Tensor tokens = tensor_of<std::int32_t>({10, 13, 9, 14, 12}, Shape{5}, stream);
  Tensor out = filled(Shape{5, 19}, 7.0F, stream);
  embedding_forward(tokens, table, 10, out, stream);
  const std::vector<int> rows{0, 3, -1, -1, 2};
  for (int i = 0; i < 5; ++i) {
    for (int c = 0; c < 19; ++c) {
      const float want = rows[i] < 0 ? 0.0F : table.data<float>()[rows[i] * 19 + c];
      REQUIRE(out.data<float>()[i * 19 + c] == want);
    }
  }
}

TEST_CASE("embedding_backward adds each token's gradient to its row") {
  Stream stream;
  const std::int64_t num_tokens = GENERATE(0, 1, 37);
  const std::int64_t hidden = 21;
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < num_tokens; ++i) {
    ids.push_back(static_cast<std::int32_t>(i * i % 7));  // rows repeat; 5 and 6 are elsewhere
  }
  const Tensor tokens = tensor_of(ids, Shape{num_tokens}, stream);
  const Tensor dout = random_tensor(Shape{num_tokens, hidden}, "dout", stream);
  Tensor gradient = random_tensor(Shape{4, hidden}, "gradient", stream);
  std::vector<double> want = doubles(gradient);
  for (std::int64_t i = 0; i < num_tokens; ++i) {
    const std::int64_t row = ids[static_cast<std::size_t>(i)] - 1;
    for (std::int64_t c = 0; c < hidden && row >= 0 && row < 4; ++c) {
      want[static_cast<std::size_t>(row * hidden + c)] += dout.data<float>()[i * hidden + c];
    }
  }
  GradientSum sum = float_sum(gradient);
  embedding_backward(tokens, dout, 1, sum, stream);
  CHECK(largest_error(gradient, want) < 2e-6);
}

TEST_CASE("embedding gives the same bits on any number of threads") {
  check_same_bits_on_any_threads([](Stream& stream) {
    const std::int64_t num_tokens = 2501;
    const std::int64_t hidden = 133;
    std::vector<std::int32_t> ids;
    for (std::int64_t i = 0; i < num_tokens; ++i) {
      ids.push_back(static_cast<std::int32_t>(i * 7 % 11));
    }
    const Tensor tokens = tensor_of(ids, Shape{num_tokens}, stream);
    const Tensor table = random_tensor(Shape{10, hidden}, "table", stream);
    Tensor out = Tensor::empty(Shape{num_tokens, hidden}, DType::kFloat32, stream);
    embedding_forward(tokens, table, 0, out, stream);
    Tensor gradient = filled(Shape{10, hidden}, 0.0F, stream);
    GradientSum sum = float_sum(gradient);
    embedding_backward(tokens, random_tensor(out.shape(), "dout", stream), 0, sum, stream);
    return std::vector<Tensor>{out, gradient};
  });
}

TEST_CASE("embedding refuses other shapes and dtypes") {
  Stream stream;
  const Tensor table = filled(Shape{4, 8}, 1.0F, stream);
  const Tensor tokens = tensor_of<std::int32_t>({1, 2}, Shape{2}, stream);
  Tensor out = filled(Shape{2, 8}, 0.0F, stream);
  Tensor narrow = filled(Shape{2, 7}, 0.0F, stream);
  CHECK_THROWS_AS(embedding_forward(tokens, table, 0, narrow, stream), InternalError);
  CHECK_THROWS_AS(embedding_forward(out, table, 0, out, stream), InternalError);
  GradientSum sum = float_sum(out);
  CHECK_THROWS_AS(embedding_backward(tokens, narrow, 0, sum, stream), InternalError);
}

}  // namespace fathom::kernels
