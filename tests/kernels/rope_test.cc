#include "kernels/rope.h"

#include <cmath>

#include "tests/kernels/op_reference.h"

namespace fathom::kernels {
namespace {

// A product that no compiler joins with the sum that follows.
float product(float a, float b) {
  const volatile float rounded = a * b;
  return rounded;
}

}  // namespace

// Numbers worked out by hand from DeepSeek-V2/V3's published settings: theta 10000, 64 rotated
// columns, factor 40, 4096 positions.
TEST_CASE("YaRN frequencies are DeepSeek's") {
  YarnOptions yarn;
  yarn.factor = 40.0;
  CHECK(yarn_correction_dim(64, 10000.0, yarn, 32.0) == Approx(10.4722).margin(5e-5));
  CHECK(yarn_correction_dim(64, 10000.0, yarn, 1.0) == Approx(22.5134).margin(5e-5));
  const std::vector<double> frequencies = rope_frequencies(64, 10000.0, yarn);
  REQUIRE(frequencies.size() == 32);
  const std::vector<std::pair<int, double>> known{
      {0, 1.0},           {10, 5.62341325e-2}, {11, 3.90069266e-2}, {15, 8.33450895e-3},
      {16, 5.5e-3},       {20, 7.90569415e-4}, {22, 1.77827941e-4}, {23, 3.33380358e-5},
      {31, 3.33380358e-6}};
  for (const auto& [index, want] : known) {
    INFO(index);
    CHECK(frequencies[static_cast<std::size_t>(index)] == Approx(want).epsilon(5e-9));
  }
}

TEST_CASE("Without YaRN the frequencies are powers of theta") {
  const std::vector<double> frequencies = rope_frequencies(8, 10000.0, {});
  REQUIRE(frequencies.size() == 4);
  CHECK(frequencies[0] == 1.0);
  CHECK(frequencies[1] == Approx(0.1).epsilon(1e-15));
  CHECK(frequencies[2] == Approx(0.01).epsilon(1e-15));
  CHECK(frequencies[3] == Approx(0.001).epsilon(1e-15));
}

TEST_CASE("rope turns each pair by position times frequency, heads and strides included") {
  Stream stream;
  const std::int64_t num_tokens = GENERATE(0, 1, 7);
  const int rope_size = GENERATE(2, 6, 16, 22);
  const RopeColumns columns{3, rope_size + 5, 4, rope_size};
  const std::int64_t width = 4 + 3 * (rope_size + 5);
  const std::vector<double> frequencies = rope_frequencies(rope_size, 10000.0, {});
  const Tensor table = rope_table(frequencies, 40, stream);
  std::vector<std::int32_t> at;
  for (std::int64_t i = 0; i < num_tokens; ++i) {
    at.push_back(static_cast<std::int32_t>(i * 13 % 40));
  }
  const Tensor positions = tensor_of(at, Shape{num_tokens}, stream);
  const Tensor source = random_tensor(Shape{num_tokens, width}, "source", stream);
  Tensor turned = filled(source.shape(), 9.0F, stream);
  rope(columns, RopeDirection::kForward, table, positions, source, turned, stream);

  std::vector<double> want(static_cast<std::size_t>(source.numel()), 9.0);
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    for (int pair = 0; pair < 3 * rope_size / 2; ++pair) {
      const int head = pair / (rope_size / 2);
      const int i = pair % (rope_size / 2);
      const auto place =
          static_cast<std::size_t>(token * width + 4 + head * (rope_size + 5) + 2 * i);
      const double angle =
          at[static_cast<std::size_t>(token)] * frequencies[static_cast<std::size_t>(i)];
      const double a = source.data<float>()[place];
      const double b = source.data<float>()[place + 1];
      want[place] = a * std::cos(angle) - b * std::sin(angle);
      want[place + 1] = a * std::sin(angle) + b * std::cos(angle);
    }
  }
  CHECK(largest_error(turned, want) < 5e-7);

  // The inverse, in place and onto untouched columns, gives the source back: it is the transposed
  // rotation, so the backward.
  rope(columns, RopeDirection::kInverse, table, positions, turned, turned, stream);
  Tensor in_place = tensor_of(vector_of(source), source.shape(), stream);
  rope(columns, RopeDirection::kForward, table, positions, in_place, in_place, stream);
  rope(columns, RopeDirection::kInverse, table, positions, in_place, in_place, stream);
  CHECK(largest_error(in_place, doubles(source)) < 1e-6);
  for (std::size_t i = 0; i < want.size(); ++i) {
    const bool is_rotated = want[i] != 9.0;
    REQUIRE(turned.data<float>()[i] == (is_rotated ? in_place.data<float>()[i] : 9.0F));
  }
}

TEST_CASE("A pair gets the same bits whether it lies in a full vector or in the tail") {
  Stream stream;
  const Tensor table = rope_table(std::vector<double>(11, 0.3), 20, stream);
  const Tensor positions = tensor_of<std::int32_t>({17}, Shape{1}, stream);
  std::vector<float> values;
  for (int i = 0; i < 11; ++i) {
    values.insert(values.end(), {0.7F, -1.3F});
  }
  Tensor x = tensor_of(values, Shape{1, 22}, stream);
  rope({1, 0, 0, 22}, RopeDirection::kForward, table, positions, x, x, stream);
  for (int i = 2; i < 22; ++i) {
    CHECK(x.data<float>()[i] == x.data<float>()[i % 2]);
  }
}

TEST_CASE("rope gives the same bits on any number of threads") {
  check_same_bits_on_any_threads([](Stream& stream) {
    const Tensor table = rope_table(rope_frequencies(18, 10000.0, {}), 700, stream);
    std::vector<std::int32_t> at(700);
    for (std::size_t i = 0; i < at.size(); ++i) {
      at[i] = static_cast<std::int32_t>(i);
    }
    const Tensor source = random_tensor(Shape{700, 120}, "source", stream);
    Tensor turned = filled(source.shape(), 0.0F, stream);
    rope({4, 30, 12, 18}, RopeDirection::kForward, table, tensor_of(at, Shape{700}, stream), source,
         turned, stream);
    return std::vector<Tensor>{table, turned};
  });
}

TEST_CASE("rope refuses positions outside the table and columns outside the rows") {
  Stream stream;
  const Tensor table = rope_table(rope_frequencies(4, 10000.0, {}), 8, stream);
  Tensor x = filled(Shape{2, 10}, 1.0F, stream);
  const auto positions = [&](std::int32_t second) {
    return tensor_of<std::int32_t>({0, second}, Shape{2}, stream);
  };
  const auto forward = RopeDirection::kForward;
  CHECK_THROWS_AS(rope({2, 5, 0, 4}, forward, table, positions(8), x, x, stream), InternalError);
  CHECK_THROWS_AS(rope({2, 5, 0, 4}, forward, table, positions(-1), x, x, stream), InternalError);
  CHECK_THROWS_AS(rope({2, 5, 2, 4}, forward, table, positions(1), x, x, stream), InternalError);
  CHECK_THROWS_AS(rope({2, 3, 0, 4}, forward, table, positions(1), x, x, stream), InternalError);
  CHECK_THROWS_AS(rope({2, 5, 0, 6}, forward, table, positions(1), x, x, stream), InternalError);
}

TEST_CASE("rope rounds each product and their sum, in whole vectors and behind them") {
  Stream stream;
  const int rope_size = GENERATE(2, 6, 8, 22, 64);
  const Tensor table = rope_table(rope_frequencies(rope_size, 10000.0, {}), 9, stream);
  const Tensor positions = tensor_of<std::int32_t>({7, 8}, Shape{2}, stream);
  const Tensor source = random_tensor(Shape{2, rope_size}, "source", stream);
  Tensor turned = filled(source.shape(), 0.0F, stream);
  rope({1, 0, 0, rope_size}, RopeDirection::kForward, table, positions, source, turned, stream);
  for (std::int64_t i = 0; i < source.numel(); i += 2) {
    const float* angle = table.data<float>() + 7 * rope_size + i;
    const float a = source.data<float>()[i];
    const float b = source.data<float>()[i + 1];
    CHECK(turned.data<float>()[i] == product(a, angle[0]) - product(b, angle[1]));
    CHECK(turned.data<float>()[i + 1] == product(b, angle[0]) + product(a, angle[1]));
  }
}

}  // namespace fathom::kernels
