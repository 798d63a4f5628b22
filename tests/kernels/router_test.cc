#include "kernels/router.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/kernels/op_reference.h"

namespace fathom::kernels {
namespace {

using Row = std::vector<double>;

Row score_reference(ScoreFunction score, const Row& logits) {
  Row s;
  double sum = 0.0;
  for (const double logit : logits) {
    s.push_back(score == ScoreFunction::kSigmoid ? 1.0 / (1.0 + std::exp(-logit))
                                                 : std::exp(logit));
    sum += s.back();
  }
  for (double& value : s) {
    value /= score == ScoreFunction::kSoftmax ? sum : 1.0;
  }
  return s;
}

// Indices by descending value, the lower index first among equals.
std::vector<int> ranked(const Row& values) {
  std::vector<int> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    const double left = values[static_cast<std::size_t>(a)];
    const double right = values[static_cast<std::size_t>(b)];
    return left != right ? left > right : a < b;
  });
  return order;
}

std::vector<int> choice_reference(const RouterOptions& options, const Row& scores,
                                  const Row& bias) {
  const int group_size = options.num_experts / options.num_groups;
  Row groups;
  Row biased;
  for (int i = 0; i < options.num_experts; ++i) {
    biased.push_back(scores[static_cast<std::size_t>(i)] + bias[static_cast<std::size_t>(i)]);
  }
  for (int group = 0; group < options.num_groups; ++group) {
    Row members(biased.begin() + group * group_size, biased.begin() + (group + 1) * group_size);
    std::sort(members.rbegin(), members.rend());
    const bool two = options.group_score == GroupScore::kSumOfTop2 && group_size > 1;
    groups.push_back(two ? members[0] + members[1] : members[0]);
  }
  std::vector<int> kept = ranked(groups);
  kept.resize(static_cast<std::size_t>(options.num_kept_groups));
  std::vector<int> chosen;
  for (const int expert : ranked(biased)) {
    const bool is_kept = std::count(kept.begin(), kept.end(), expert / group_size) > 0;
    if (is_kept && static_cast<int>(chosen.size()) < options.top_k) {
      chosen.push_back(expert);
    }
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

Row gates_reference(const RouterOptions& options, const Row& scores,
                    const std::vector<int>& chosen) {
  double sum = 0.0;
  Row gates;
  for (const int expert : chosen) {
    gates.push_back(scores[static_cast<std::size_t>(expert)]);
    sum += gates.back();
  }
  for (double& gate : gates) {
    gate *= options.gate_scale / (options.normalize_gates ? sum + 1e-20 : 1.0);
  }
  return gates;
}

Row row_of(const Tensor& tensor, std::int64_t row) {
  const float* first = tensor.data<float>() + row * tensor.size(1);
  return {first, first + tensor.size(1)};
}

RouterOptions v3_options() {
  RouterOptions options;
  options.num_experts = 24;
  options.top_k = 4;
  options.num_groups = 6;
  options.num_kept_groups = 3;
  options.gate_scale = 2.5F;
  return options;
}

RouterOptions v2_options() {
  RouterOptions options;
  options.score = ScoreFunction::kSoftmax;
  options.group_score = GroupScore::kMax;
  options.num_experts = 20;
  options.top_k = 6;
  options.num_groups = 5;
  options.num_kept_groups = 2;
  options.normalize_gates = false;
  options.gate_scale = 16.0F;
  return options;
}

RouterOptions plain_options() {
  RouterOptions options;
  options.num_experts = 7;
  options.top_k = 3;
  return options;
}

struct Routed {
  Routed(const RouterOptions& options, const Tensor& logits, const Tensor& bias, Stream& stream)
      : scores(Tensor::empty(logits.shape(), DType::kFloat32, stream)),
        expert_ids(Tensor::empty(Shape{logits.size(0), options.top_k}, DType::kInt32, stream)),
        gates(Tensor::empty(Shape{logits.size(0), options.top_k}, DType::kFloat32, stream)) {
    router_forward(options, logits, bias, scores, expert_ids, gates, stream);
  }
  std::vector<int> chosen(std::int64_t row) const {
    const auto* first = expert_ids.data<std::int32_t>() + row * expert_ids.size(1);
    return {first, first + expert_ids.size(1)};
  }

  Tensor scores;
  Tensor expert_ids;
  Tensor gates;
};

}  // namespace

TEST_CASE("The V3, V2 and ungrouped routers choose and weigh as their equations") {
  Stream stream;
  const RouterOptions options = GENERATE(v3_options(), v2_options(), plain_options());
  const std::int64_t num_tokens = GENERATE(0, 1, 65);
  const Tensor logits = random_tensor(Shape{num_tokens, options.num_experts}, "logits", stream);
  // As large as the spread of the scores, so that it changes the choice.
  Tensor bias = random_tensor(Shape{options.num_experts}, "bias", stream);
  for (float& b : bias.mutable_values<float>()) {
    b *= options.score == ScoreFunction::kSoftmax ? 0.02F : 0.2F;
  }
  const Routed routed(options, logits, bias, stream);
  const Row biases = doubles(bias);
  for (std::int64_t row = 0; row < num_tokens; ++row) {
    INFO(row);
    const Row scores = score_reference(options.score, row_of(logits, row));
    for (int i = 0; i < options.num_experts; ++i) {
      REQUIRE(row_of(routed.scores, row)[static_cast<std::size_t>(i)] ==
              Approx(scores[static_cast<std::size_t>(i)]).epsilon(1e-6));
    }
    const std::vector<int> chosen = choice_reference(options, scores, biases);
    REQUIRE(routed.chosen(row) == chosen);
    const Row gates = gates_reference(options, scores, chosen);
    for (std::size_t j = 0; j < gates.size(); ++j) {
      REQUIRE(row_of(routed.gates, row)[j] == Approx(gates[j]).epsilon(2e-6));
    }
  }
}

TEST_CASE("A kept expert with a negative biased score is chosen before any of an excluded group") {
  Stream stream;
  RouterOptions options;
  options.num_experts = 4;
  options.top_k = 2;
  options.num_groups = 2;
  options.num_kept_groups = 1;
  const Tensor logits = filled(Shape{1, 4}, 0.0F, stream);
  const Tensor bias = tensor_of<float>({1.0F, -2.0F, -0.6F, -0.6F}, Shape{4}, stream);
  const Routed routed(options, logits, bias, stream);  // group sums 0 and -0.2
  CHECK(routed.chosen(0) == std::vector<int>{0, 1});
}

TEST_CASE("Equal scores go to the lowest expert and the lowest group") {
  Stream stream;
  RouterOptions options = v3_options();
  const Tensor logits = filled(Shape{1, 24}, 0.25F, stream);
  const Routed routed(options, logits, filled(Shape{24}, 0.0F, stream), stream);
  CHECK(routed.chosen(0) == std::vector<int>{0, 1, 2, 3});
  // Group 4 first, then groups 0 and 1 of the equal ones; experts 16 to 19 are the largest.
  Tensor uneven = filled(Shape{1, 24}, 0.25F, stream);
  std::fill_n(uneven.mutable_data<float>() + 16, 3, 1.0F);
  CHECK(Routed(options, uneven, filled(Shape{24}, 0.0F, stream), stream).chosen(0) ==
        std::vector<int>{0, 16, 17, 18});
}

TEST_CASE("A NaN logit makes the gates of its row NaN, and no other") {
  Stream stream;
  const RouterOptions options = GENERATE(v3_options(), v2_options(), plain_options());
  Tensor logits = random_tensor(Shape{5, options.num_experts}, "logits", stream);
  const int column = GENERATE(0, 6);
  logits.mutable_data<float>()[3 * options.num_experts + column] =
      std::numeric_limits<float>::quiet_NaN();
  const Tensor bias = filled(Shape{options.num_experts}, 0.0F, stream);
  const Routed routed(options, logits, bias, stream);
  for (int row = 0; row < 5; ++row) {
    CHECK(routed.chosen(row).size() == static_cast<std::size_t>(options.top_k));
    for (int j = 0; j < options.top_k; ++j) {
      const float gate = routed.gates.data<float>()[std::int64_t{row} * options.top_k + j];
      CHECK(std::isnan(gate) == (row == 3));
    }
  }
}

TEST_CASE("Forced balance deals the experts out in turn and leaves the scores alone") {
  Stream stream;
  RouterOptions options = plain_options();
  options.forced_balance = true;
  options.first_token = 4;  // first slot 12: experts 5, 6, 0
  const Tensor logits = random_tensor(Shape{7, 7}, "logits", stream);
  const Routed routed(options, logits, filled(Shape{7}, 0.0F, stream), stream);
  CHECK(routed.chosen(0) == std::vector<int>{0, 5, 6});
  CHECK(routed.chosen(1) == std::vector<int>{1, 2, 3});
  Tensor counts = Tensor::zeros(Shape{7}, DType::kInt64, stream);
  count_experts(routed.expert_ids, counts, stream);
  CHECK(vector_of<std::int64_t>(counts) == std::vector<std::int64_t>(7, 3));
  const Row gates =
      gates_reference(options, score_reference(options.score, row_of(logits, 0)), {0, 5, 6});
  CHECK(row_of(routed.gates, 0)[1] == Approx(gates[1]).epsilon(1e-6));
}

TEST_CASE("Experts are counted by runs of tokens") {
  Stream stream;
  const Tensor ids = tensor_of<std::int32_t>({0, 2, 0, 1, 1, 2, 0, 2}, Shape{4, 2}, stream);
  Tensor counts = Tensor::zeros(Shape{3, 2}, DType::kInt64, stream);
  count_experts(ids, counts, stream);
  CHECK(vector_of<std::int64_t>(counts) == std::vector<std::int64_t>{2, 1, 1, 1, 1, 2});
  Tensor of_thirds = Tensor::zeros(Shape{3, 3}, DType::kInt64, stream);
  CHECK_THROWS_AS(count_experts(ids, of_thirds, stream), InternalError);
}

TEST_CASE("A choice that is kept has the gates of the new scores") {
  Stream stream;
  RouterOptions options = GENERATE(v3_options(), v2_options(), plain_options());
  const Shape shape{9, options.num_experts};
  const Tensor bias = filled(Shape{options.num_experts}, 0.0F, stream);
  const Routed first(options, random_tensor(shape, "logits", stream), bias, stream);
  const Tensor logits = random_tensor(shape, "other logits", stream);
  Routed second(options, logits, bias, stream);
  Tensor ids = first.expert_ids;
  const std::vector<std::int32_t> before = vector_of<std::int32_t>(ids);
  REQUIRE(before != vector_of<std::int32_t>(second.expert_ids));
  options.keeps_choice = true;
  router_forward(options, logits, bias, second.scores, ids, second.gates, stream);
  CHECK(vector_of<std::int32_t>(ids) == before);
  for (std::int64_t row = 0; row < 9; ++row) {
    const Row want = gates_reference(options, score_reference(options.score, row_of(logits, row)),
                                     first.chosen(row));
    for (std::size_t j = 0; j < want.size(); ++j) {
      CHECK(row_of(second.gates, row)[j] == Approx(want[j]).epsilon(1e-5));
    }
  }
}

TEST_CASE("router_backward matches finite differences of gates and scores") {
  Stream stream;
  const RouterOptions options = GENERATE(v3_options(), v2_options(), plain_options());
  const std::int64_t num_tokens = 3;
  const Shape shape{num_tokens, options.num_experts};
  const Tensor logits = random_tensor(shape, "logits", stream);
  const Routed routed(options, logits, filled(Shape{options.num_experts}, 0.0F, stream), stream);
  const Tensor d_gates = random_tensor(Shape{num_tokens, options.top_k}, "d_gates", stream);
  Tensor d_scores = random_tensor(shape, "d_scores", stream);
  Tensor d_logits = Tensor::empty(shape, DType::kFloat32, stream);
  router_backward(options, routed.scores, routed.expert_ids, d_gates, d_scores, d_logits, stream);
  Row want;
  for (std::int64_t row = 0; row < num_tokens; ++row) {
    const auto loss = [&](const Row& x) {
      const Row scores = score_reference(options.score, x);
      return dot(row_of(d_gates, row), gates_reference(options, scores, routed.chosen(row))) +
             dot(row_of(d_scores, row), scores);
    };
    const Row gradient = finite_differences(loss, row_of(logits, row));
    want.insert(want.end(), gradient.begin(), gradient.end());
  }
  CHECK(largest_error(d_logits, want) < 2e-6);
  router_backward(options, routed.scores, routed.expert_ids, d_gates, d_scores, d_scores, stream);
  CHECK(bytes_of(d_scores) == bytes_of(d_logits));
}

TEST_CASE("Balance statistics count the unbiased, ungrouped top-k and sum shares by sequence") {
  Stream stream;
  const RouterOptions options = GENERATE(v3_options(), v2_options());
  const std::int64_t num_tokens = 9;
  const int num_experts = options.num_experts;
  const Tensor logits = random_tensor(Shape{num_tokens, num_experts}, "logits", stream);
  const Tensor bias = random_tensor(Shape{num_experts}, "bias", stream);  // must not matter
  const Routed routed(options, logits, bias, stream);
  const std::vector<std::int32_t> sequences{0, 0, 2, 2, 2, 0, 1, 1, 2};
  Tensor counts = Tensor::zeros(Shape{3, num_experts}, DType::kInt64, stream);
  Tensor sums = Tensor::zeros(Shape{3, num_experts}, DType::kInt64, stream);
  sums.mutable_values<std::int64_t>()[1] = std::int64_t{1} << kScoreFractionBits;
  const Tensor ids = tensor_of(sequences, Shape{num_tokens}, stream);
  balance_statistics(options, routed.scores, ids, counts, sums, stream);
  std::vector<std::int64_t> want_counts(static_cast<std::size_t>(3 * num_experts), 0);
  Row want_sums(static_cast<std::size_t>(3 * num_experts), 0.0);
  want_sums[1] = 1.0;
  for (std::int64_t row = 0; row < num_tokens; ++row) {
    const auto first = static_cast<std::size_t>(sequences[static_cast<std::size_t>(row)]) *
                       static_cast<std::size_t>(num_experts);
    const Row scores = score_reference(options.score, row_of(logits, row));
    const double total = std::accumulate(scores.begin(), scores.end(), 0.0);
    const std::vector<int> order = ranked(scores);
    for (std::size_t i = 0; i < scores.size(); ++i) {
      want_sums[first + i] += scores[i] / total;  // a softmax's total is 1
      want_counts[first + static_cast<std::size_t>(order[i])] +=
          static_cast<int>(i) < options.top_k ? 1 : 0;
    }
  }
  CHECK(vector_of<std::int64_t>(counts) == want_counts);
  for (std::size_t i = 0; i < want_sums.size(); ++i) {
    const double sum =
        std::ldexp(static_cast<double>(sums.values<std::int64_t>()[i]), -kScoreFractionBits);
    CHECK(sum == Approx(want_sums[i]).margin(1e-6));
  }
}

TEST_CASE("selection_statistics counts slots by expert and tokens by group") {
  Stream stream;
  const Tensor experts = tensor_of<std::int32_t>({0, 1, 4, 1, 3, 5, 0, 2, 3}, Shape{3, 3}, stream);
  const Tensor sequences = tensor_of<std::int32_t>({1, 0, 1}, Shape{3}, stream);
  Tensor counts = Tensor::zeros(Shape{2, 6}, DType::kInt64, stream);
  Tensor groups = Tensor::zeros(Shape{2, 3}, DType::kInt64, stream);
  selection_statistics(experts, sequences, counts, groups, stream);
  CHECK(vector_of<std::int64_t>(counts) ==
        std::vector<std::int64_t>{0, 1, 0, 1, 0, 1, 2, 1, 1, 1, 1, 0});
  CHECK(vector_of<std::int64_t>(groups) == std::vector<std::int64_t>{1, 1, 1, 2, 1, 1});
}

TEST_CASE("balance_backward matches finite differences of the normalised scores") {
  Stream stream;
  const RouterOptions options = GENERATE(v3_options(), v2_options());
  const Shape shape{3, options.num_experts};
  const Tensor logits = random_tensor(shape, "logits", stream);
  const Routed routed(options, logits, filled(Shape{options.num_experts}, 0.0F, stream), stream);
  const Tensor sequences = tensor_of<std::int32_t>({1, 0, 1}, Shape{3}, stream);
  const Tensor coefficient = random_tensor(Shape{2, options.num_experts}, "coefficient", stream);
  Tensor d_scores = random_tensor(shape, "d_scores", stream);
  Row want = doubles(d_scores);
  for (std::int64_t row = 0; row < 3; ++row) {
    const Row weights = row_of(coefficient, sequences.data<std::int32_t>()[row]);
    const auto loss = [&](const Row& s) {
      const bool is_sigmoid = options.score == ScoreFunction::kSigmoid;
      return dot(weights, s) / (is_sigmoid ? std::accumulate(s.begin(), s.end(), 0.0) : 1.0);
    };
    const Row gradient = finite_differences(loss, row_of(routed.scores, row));
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      want[static_cast<std::size_t>(row) * gradient.size() + i] += gradient[i];
    }
  }
  balance_backward(options, routed.scores, sequences, coefficient, d_scores, stream);
  CHECK(largest_error(d_scores, want) < 1e-6);
}

TEST_CASE("Routing gives the same bits on any number of threads") {
  const RouterOptions options = GENERATE(v3_options(), v2_options());
  check_same_bits_on_any_threads([&](Stream& stream) {
    const std::int64_t num_tokens = 517;
    const Shape shape{num_tokens, options.num_experts};
    const Tensor logits = random_tensor(shape, "logits", stream);
    const Routed routed(options, logits, filled(Shape{options.num_experts}, 0.0F, stream), stream);
    std::vector<std::int32_t> sequences;
    for (std::int64_t i = 0; i < num_tokens; ++i) {
      sequences.push_back(static_cast<std::int32_t>(i % 5));
    }
    const Tensor ids = tensor_of(sequences, Shape{num_tokens}, stream);
    Tensor counts = Tensor::zeros(Shape{5, options.num_experts}, DType::kInt64, stream);
    Tensor sums = Tensor::zeros(Shape{5, options.num_experts}, DType::kInt64, stream);
    const Tensor coefficients =
        random_tensor(Shape{5, options.num_experts}, "coefficients", stream);
    balance_statistics(options, routed.scores, ids, counts, sums, stream);
    Tensor d_scores = filled(shape, 0.0F, stream);
    balance_backward(options, routed.scores, ids, coefficients, d_scores, stream);
    Tensor d_logits = Tensor::empty(shape, DType::kFloat32, stream);
    router_backward(options, routed.scores, routed.expert_ids, routed.gates, d_scores, d_logits,
                    stream);
    return std::vector<Tensor>{routed.scores, routed.expert_ids, routed.gates, counts,
                               sums,          d_scores,          d_logits};
  });
}

TEST_CASE("The router refuses options and shapes that contradict each other") {
  Stream stream;
  const Tensor logits = filled(Shape{2, 7}, 0.0F, stream);
  const Tensor bias = filled(Shape{7}, 0.0F, stream);
  RouterOptions options = plain_options();
  options.top_k = 8;
  CHECK_THROWS_AS(Routed(options, logits, bias, stream), InternalError);
  options = plain_options();
  options.num_groups = 2;
  CHECK_THROWS_AS(Routed(options, logits, bias, stream), InternalError);
  options = plain_options();
  options.num_groups = 7;
  options.num_kept_groups = 2;
  CHECK_THROWS_AS(Routed(options, logits, bias, stream), InternalError);
  options = plain_options();
  options.num_experts = 6;
  CHECK_THROWS_AS(Routed(options, logits, bias, stream), InternalError);
}

}  // namespace fathom::kernels
