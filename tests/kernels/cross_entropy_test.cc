#include "kernels/cross_entropy.h"

#include <cmath>

#include "kernels/elementwise.h"
#include "tests/kernels/op_reference.h"

namespace fathom::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Loss {
  Tensor loss;
  std::vector<Tensor> parts;  // d_logits of each part
};

// The steps over classes cut into parts, as tensor ranks would do them.
Loss cross_entropy(std::vector<Tensor> parts, const Tensor& targets, const Tensor& weights,
                   Stream& stream) {
  const Shape per_token{targets.size(0)};
  Tensor row_max = filled(per_token, -kInfinity, stream);
  Tensor sums = filled(Shape{2, targets.size(0)}, 0.0F, stream);
  Tensor part_max = filled(per_token, 0.0F, stream);
  std::vector<Tensor> part_sums;
  for (const Tensor& part : parts) {
    part_sums.push_back(filled(sums.shape(), 0.0F, stream));
    cross_entropy_row_max(part, part_max, part_sums.back(), stream);
    take_maximum(row_max, part_max, stream);
  }
  std::int64_t first_class = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    cross_entropy_exp_sum(parts[i], {targets, first_class, 1}, row_max, part_sums[i], stream);
    add_in_place(sums, part_sums[i], stream);
    first_class += parts[i].size(1);
  }
  Tensor loss = filled(per_token, -1.0F, stream);
  cross_entropy_loss(sums, weights, loss, stream);  // the weights as a mask
  first_class = 0;
  for (Tensor& part : parts) {
    cross_entropy_backward(part, {targets, weights, row_max, sums}, first_class, stream);
    first_class += part.size(1);
  }
  return {loss, parts};
}

TEST_CASE("Row sums over chunks of classes do not depend on how ranks cut them") {
  Stream stream;
  const Shape per_token{5};
  const Tensor logits = random_tensor(Shape{5, 88}, "logits", stream);
  const Tensor targets = Tensor::zeros(per_token, DType::kInt32, stream);
  const Tensor row_max = filled(per_token, 4.0F, stream);
  // 4 chunks in all, on 1, 2 or 4 ranks; the ranks' sums in a binary tree.
  const auto sums = [&](int num_ranks) {
    std::vector<Tensor> of_rank;
    for (int rank = 0; rank < num_ranks; ++rank) {
      const int width = 88 / num_ranks;
      Tensor part = Tensor::empty(Shape{5, width}, DType::kFloat32, stream);
      copy_columns(logits, rank * width, part, 0, width, stream);
      Tensor part_sums = Tensor::empty(Shape{2, 5}, DType::kFloat32, stream);
      cross_entropy_exp_sum(part, {targets, rank * width, 4 / num_ranks}, row_max, part_sums,
                            stream);
      of_rank.push_back(part_sums.narrow(0, 1));
    }
    for (std::size_t step = 1; step < of_rank.size(); step *= 2) {
      for (std::size_t rank = 0; rank < of_rank.size(); rank += 2 * step) {
        add_in_place(of_rank[rank], of_rank[rank + step], stream);
      }
    }
    return bytes_of(of_rank[0]);
  };
  CHECK(sums(2) == sums(1));
  CHECK(sums(4) == sums(1));
}

double reference_loss(const std::vector<double>& logits, std::int64_t target) {
  double sum = 0.0;
  for (const double logit : logits) {
    sum += std::exp(logit);
  }
  return std::log(sum) - logits[static_cast<std::size_t>(target)];
}

Tensor scaled(Tensor x, float factor, Stream& stream) {
  scale(x, factor, stream);
  return x;
}

}  // namespace

TEST_CASE("Cross-entropy and its gradient match float64 and finite differences, cut or whole") {
  Stream stream;
  const std::int64_t num_tokens = GENERATE(0, 1, 6);
  const std::vector<std::int64_t> sizes =
      GENERATE(std::vector<std::int64_t>{1}, std::vector<std::int64_t>{43},
               std::vector<std::int64_t>{16, 20, 7});
  std::vector<Tensor> parts;
  std::int64_t num_classes = 0;
  for (const std::int64_t size : sizes) {
    parts.push_back(scaled(
        random_tensor(Shape{num_tokens, size}, concat("part ", num_classes), stream), 4, stream));
    num_classes += size;
  }
  std::vector<std::vector<double>> rows(static_cast<std::size_t>(num_tokens));
  std::vector<std::int32_t> target_ids;
  std::vector<float> weight_values;
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    for (const Tensor& part : parts) {
      const float* first = part.data<float>() + token * part.size(1);
      auto& row = rows[static_cast<std::size_t>(token)];
      row.insert(row.end(), first, first + part.size(1));
    }
    target_ids.push_back(static_cast<std::int32_t>(token * 17 % num_classes));
    weight_values.push_back(0.25F * static_cast<float>(token + 1));
  }
  const Tensor targets = tensor_of(target_ids, Shape{num_tokens}, stream);
  const Tensor weights = tensor_of(weight_values, Shape{num_tokens}, stream);
  const Loss result = cross_entropy(parts, targets, weights, stream);
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    const auto& row = rows[static_cast<std::size_t>(token)];
    const std::int64_t target = target_ids[static_cast<std::size_t>(token)];
    const double want = reference_loss(row, target);
    CHECK(result.loss.data<float>()[token] == Approx(want).epsilon(1e-6).margin(1e-6));
    const auto gradient = finite_differences(
        [&](const std::vector<double>& x) {
          return weight_values[static_cast<std::size_t>(token)] * reference_loss(x, target);
        },
        row);
    std::size_t at = 0;
    for (const Tensor& part : result.parts) {
      for (std::int64_t c = 0; c < part.size(1); ++c, ++at) {
        REQUIRE(std::abs(part.data<float>()[token * part.size(1) + c] - gradient[at]) < 1e-6);
      }
    }
  }
}

TEST_CASE("Logits of any size neither overflow nor vanish") {
  Stream stream;
  const Tensor logits = tensor_of<float>({1000, 1000, -1000, 1001, -3000, -3001, -2999, -kInfinity},
                                         Shape{2, 4}, stream);
  const Tensor targets = tensor_of<std::int32_t>({0, 1}, Shape{2}, stream);
  const Loss result = cross_entropy({logits}, targets, filled(Shape{2}, 1.0F, stream), stream);
  CHECK(result.loss.data<float>()[0] == Approx(std::log(2.0 + std::exp(1.0))).epsilon(1e-6));
  CHECK(result.loss.data<float>()[1] ==
        Approx(2.0 + std::log(1.0 + std::exp(-1.0) + std::exp(-2.0))).epsilon(1e-6));
  CHECK(result.parts[0].data<float>()[7] == 0.0F);  // a padding class
}

TEST_CASE("A token of weight 0 has neither loss nor gradient, whatever its target and logits") {
  Stream stream;
  Tensor logits = random_tensor(Shape{2, 19}, "logits", stream);
  logits.mutable_data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
  const Tensor targets = tensor_of<std::int32_t>({-100, 4}, Shape{2}, stream);
  const Tensor weights = tensor_of<float>({0.0F, 1.0F}, Shape{2}, stream);
  const Loss result = cross_entropy({logits}, targets, weights, stream);
  CHECK(result.loss.data<float>()[0] == 0.0F);
  CHECK(result.loss.data<float>()[1] > 0.0F);
  for (int c = 0; c < 19; ++c) {
    CHECK(result.parts[0].data<float>()[c] == 0.0F);
  }
}

TEST_CASE("A NaN logit makes the loss of its token NaN, wherever it stands") {
  Stream stream;
  const std::int64_t column = GENERATE(0, 5, 17, 32, 40);
  Tensor logits = random_tensor(Shape{2, 41}, "logits", stream);
  logits.mutable_data<float>()[column] = std::numeric_limits<float>::quiet_NaN();
  const Tensor targets = tensor_of<std::int32_t>({2, 4}, Shape{2}, stream);
  const Loss result = cross_entropy({logits}, targets, filled(Shape{2}, 1.0F, stream), stream);
  CHECK(std::isnan(result.loss.data<float>()[0]));
  CHECK(!std::isnan(result.loss.data<float>()[1]));
}

TEST_CASE("Cross-entropy gives the same bits on any number of threads") {
  check_same_bits_on_any_threads([](Stream& stream) {
    const Tensor logits = random_tensor(Shape{131, 777}, "logits", stream);
    std::vector<std::int32_t> ids;
    for (std::int32_t token = 0; token < 131; ++token) {
      ids.push_back(token * 5);
    }
    const Loss result = cross_entropy({logits}, tensor_of(ids, Shape{131}, stream),
                                      filled(Shape{131}, 0.1F, stream), stream);
    return std::vector<Tensor>{result.loss, result.parts[0]};
  });
}

TEST_CASE("Cross-entropy refuses shapes that do not fit") {
  Stream stream;
  Tensor logits = filled(Shape{2, 5}, 1.0F, stream);
  Tensor two = filled(Shape{2}, 1.0F, stream);
  Tensor three = filled(Shape{3}, 1.0F, stream);
  Tensor sums = filled(Shape{2, 2}, 1.0F, stream);
  Tensor sums_of_three = filled(Shape{2, 3}, 1.0F, stream);
  const Tensor targets = tensor_of<std::int32_t>({0, 1}, Shape{2}, stream);
  CHECK_THROWS_AS(cross_entropy_row_max(logits, three, sums, stream), InternalError);
  CHECK_THROWS_AS(cross_entropy_row_max(logits, two, sums_of_three, stream), InternalError);
  CHECK_THROWS_AS(cross_entropy_exp_sum(logits, {two, 0, 1}, two, sums, stream), InternalError);
  CHECK_THROWS_AS(cross_entropy_exp_sum(logits, {targets, 0, 1}, three, sums, stream),
                  InternalError);
  CHECK_THROWS_AS(cross_entropy_exp_sum(logits, {targets, 0, 1}, two, two, stream), InternalError);
  CHECK_THROWS_AS(cross_entropy_loss(sums, three, two, stream), InternalError);
  CHECK_THROWS_AS(cross_entropy_loss(sums_of_three, two, two, stream), InternalError);
  CHECK_THROWS_AS(cross_entropy_backward(logits, {targets, three, two, sums}, 0, stream),
                  InternalError);
  CHECK_THROWS_AS(cross_entropy_backward(logits, {targets, two, three, sums}, 0, stream),
                  InternalError);
}

}  // namespace fathom::kernels
