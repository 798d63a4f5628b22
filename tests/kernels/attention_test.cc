#include "kernels/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.h"
#include "kernels/elementwise.h"
#include "tests/kernels/product_reference.h"
#include "tests/support/catch.h"

namespace fathom::kernels {
namespace {

using Doubles = std::vector<double>;

// The inputs of one call, and what the kernels make of them.
struct Case {
  Case(const AttentionShape& attention, const std::vector<std::int32_t>& segment_starts,
       Stream& given_stream)
      : shape(attention),
        num_tokens(segment_starts.back()),
        starts(segment_starts),
        q(random_tensor({num_tokens, shape.num_heads * (shape.nope_size + shape.rope_size)}, "q",
                        given_stream)),
        kv(random_tensor({num_tokens, shape.num_heads * (shape.nope_size + shape.value_size)}, "kv",
                         given_stream)),
        latent(random_tensor({num_tokens, shape.rope_column + shape.rope_size + 1}, "latent",
                             given_stream)),
        segments(
            Tensor::empty({static_cast<std::int64_t>(starts.size())}, DType::kInt32, given_stream)),
        out(random_tensor({num_tokens, shape.num_heads * shape.value_size}, "old", given_stream)),
        lse(random_tensor({num_tokens, shape.num_heads}, "old", given_stream)),
        dout(random_tensor(out.shape(), "dout", given_stream)),
        dq(random_tensor(q.shape(), "old", given_stream)),
        dkv(random_tensor(kv.shape(), "old", given_stream)),
        dlatent(random_tensor(latent.shape(), "old dlatent", given_stream)),
        stream(given_stream) {
    std::copy(starts.begin(), starts.end(), segments.mutable_data<std::int32_t>());
  }

  void forward() { attention_forward(shape, {q, kv, latent, segments}, out, lse, stream); }
  void backward() {
    attention_backward(shape, {{q, kv, latent, segments}, out, lse}, dout, dq, dkv, dlatent,
                       stream);
  }

  AttentionShape shape;
  std::int64_t num_tokens;
  std::vector<std::int32_t> starts;
  Tensor q, kv, latent, segments, out, lse, dout, dq, dkv, dlatent;
  Stream& stream;
};

Doubles to_doubles(const Tensor& x) { return {x.values<float>().begin(), x.values<float>().end()}; }

// Attention and its gradients in float64, one pair of tokens after the other.
struct Reference {
  explicit Reference(const Case& given)
      : shape(given.shape),
        starts(given.starts),
        latent_size(given.latent.size(1)),
        q(to_doubles(given.q)),
        kv(to_doubles(given.kv)),
        latent(to_doubles(given.latent)),
        dout(to_doubles(given.dout)),
        out(dout.size()),
        lse(to_doubles(given.lse).size()),
        dq(q.size()),
        dkv(kv.size()),
        dlatent(latent.size()) {}

  std::int64_t q_at(std::int64_t token, std::int64_t head) const {
    return (token * shape.num_heads + head) * (shape.nope_size + shape.rope_size);
  }
  std::int64_t kv_at(std::int64_t token, std::int64_t head) const {
    return (token * shape.num_heads + head) * (shape.nope_size + shape.value_size);
  }
  std::int64_t out_at(std::int64_t token, std::int64_t head) const {
    return (token * shape.num_heads + head) * shape.value_size;
  }
  std::int64_t rope_at(std::int64_t token) const { return token * latent_size + shape.rope_column; }

  // Calls visit(element of q, element of k, gradient of that element of k) for each dimension.
  template <class Visit>
  void for_each_key_element(std::int64_t query, std::int64_t key, std::int64_t head,
                            Visit&& visit) {
    for (std::int64_t d = 0; d < shape.nope_size; ++d) {
      const auto at = static_cast<std::size_t>(kv_at(key, head) + d);
      visit(static_cast<std::size_t>(q_at(query, head) + d), kv[at], dkv[at]);
    }
    for (std::int64_t d = 0; d < shape.rope_size; ++d) {
      const auto at = static_cast<std::size_t>(rope_at(key) + d);
      visit(static_cast<std::size_t>(q_at(query, head) + shape.nope_size + d), latent[at],
            dlatent[at]);
    }
  }

  void run() {
    for (std::size_t s = 0; s + 1 < starts.size(); ++s) {
      for (std::int64_t head = 0; head < shape.num_heads; ++head) {
        for (std::int64_t query = starts[s]; query < starts[s + 1]; ++query) {
          run_row(starts[s], query, head);
        }
      }
    }
  }

  void run_row(std::int64_t first, std::int64_t query, std::int64_t head) {
    Doubles scores;
    for (std::int64_t key = first; key <= query; ++key) {
      double score = 0;
      for_each_key_element(query, key, head,
                           [&](std::size_t at, double k, double&) { score += q[at] * k; });
      scores.push_back(score * static_cast<double>(shape.scale));
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (const double score : scores) {
      sum += std::exp(score - largest);
    }
    const double log_sum = largest + std::log(sum);
    lse[static_cast<std::size_t>(query * shape.num_heads + head)] = log_sum;
    double delta = 0;
    for (std::int64_t d = 0; d < shape.value_size; ++d) {
      const auto at = static_cast<std::size_t>(out_at(query, head) + d);
      for (std::int64_t key = first; key <= query; ++key) {
        out[at] += std::exp(scores[static_cast<std::size_t>(key - first)] - log_sum) *
                   kv[static_cast<std::size_t>(kv_at(key, head) + shape.nope_size + d)];
      }
      delta += dout[at] * out[at];
    }
    for (std::int64_t key = first; key <= query; ++key) {
      const double weight = std::exp(scores[static_cast<std::size_t>(key - first)] - log_sum);
      double dweight = 0;
      for (std::int64_t d = 0; d < shape.value_size; ++d) {
        const auto value = static_cast<std::size_t>(kv_at(key, head) + shape.nope_size + d);
        const double dout_element = dout[static_cast<std::size_t>(out_at(query, head) + d)];
        dweight += dout_element * kv[value];
        dkv[value] += weight * dout_element;
      }
      const double dscore = weight * (dweight - delta) * static_cast<double>(shape.scale);
      for_each_key_element(query, key, head, [&](std::size_t at, double k, double& dk) {
        dq[at] += dscore * k;
        dk += dscore * q[at];
      });
    }
  }

  AttentionShape shape;
  std::vector<std::int32_t> starts;
  std::int64_t latent_size;
  Doubles q, kv, latent, dout, out, lse, dq, dkv, dlatent;
};

// Largest difference relative to the largest magnitude wanted, or to 1.
double relative_error(const Tensor& found, const Doubles& want) {
  double error = 0;
  double largest = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double difference = std::abs(static_cast<double>(found.values<float>()[i]) - want[i]);
    error = std::isnan(difference) ? difference : std::max(error, difference);
    largest = std::max(largest, std::abs(want[i]));
  }
  return error / std::max(largest, 1.0);
}

constexpr AttentionShape kSmall{.num_heads = 4,
                                .nope_size = 32,
                                .rope_size = 16,
                                .value_size = 32,
                                .rope_column = 8,
                                .scale = 0.14433757F};
constexpr AttentionShape kOdd{.num_heads = 3,
                              .nope_size = 13,
                              .rope_size = 6,
                              .value_size = 21,
                              .rope_column = 3,
                              .scale = 0.3F};
constexpr AttentionShape kLarge{.num_heads = 1,
                                .nope_size = 128,
                                .rope_size = 64,
                                .value_size = 128,
                                .rope_column = 0,
                                .scale = 0.0721687F};
constexpr AttentionShape kManyHeads{.num_heads = 11,
                                    .nope_size = 4,
                                    .rope_size = 2,
                                    .value_size = 5,
                                    .rope_column = 1,
                                    .scale = 0.5F};

TEST_CASE("Attention and its gradients agree with float64 at odd sizes and over segments") {
  struct Given {
    AttentionShape shape;
    std::vector<std::int32_t> starts;
  };
  const std::vector<Given> cases = {
      {kSmall, {0, 1}},
      {kSmall, {0, 64, 128}},
      {kSmall, {0, 1, 2, 67, 67, 200}},
      {kOdd, {0, 63, 128, 129, 259}},
      {kOdd, {0, 5}},
      {kLarge, {0, 100}},
      {kManyHeads, {0, 30, 97}},
  };
  const auto num_threads = GENERATE(1, 2);
  Stream stream({}, num_threads);
  for (const Given& given : cases) {
    Case tested(given.shape, given.starts, stream);
    Reference reference(tested);
    reference.run();
    tested.forward();
    tested.backward();
    INFO("heads " << given.shape.num_heads << ", tokens " << tested.num_tokens);
    CHECK(relative_error(tested.out, reference.out) < 2e-6);
    CHECK(relative_error(tested.lse, reference.lse) < 1e-6);
    CHECK(relative_error(tested.dq, reference.dq) < 4e-6);
    CHECK(relative_error(tested.dkv, reference.dkv) < 4e-6);
    // The columns of dlatent that are not k_rope keep what they held.
    const Doubles before = to_doubles(random_tensor(tested.dlatent.shape(), "old dlatent", stream));
    for (std::size_t i = 0; i < before.size(); ++i) {
      const auto column = static_cast<std::int64_t>(i) % tested.latent.size(1);
      if (column < given.shape.rope_column ||
          column >= given.shape.rope_column + given.shape.rope_size) {
        reference.dlatent[i] = before[i];
        CHECK(static_cast<double>(tested.dlatent.values<float>()[i]) == before[i]);
      }
    }
    CHECK(relative_error(tested.dlatent, reference.dlatent) < 4e-6);
  }
}

TEST_CASE("Attention gradients are those of finite differences in float64") {
  Stream stream;
  Case tested({.num_heads = 2,
               .nope_size = 3,
               .rope_size = 2,
               .value_size = 3,
               .rope_column = 1,
               .scale = 0.6F},
              {0, 1, 6}, stream);
  tested.forward();
  tested.backward();
  const auto loss = [&](const std::function<void(Reference&)>& change) {
    Reference reference(tested);
    change(reference);
    reference.run();
    return std::inner_product(reference.out.begin(), reference.out.end(), reference.dout.begin(),
                              0.0);
  };
  const auto check = [&](Doubles Reference::* input, const Tensor& gradient, std::int64_t first,
                         std::int64_t size) {
    constexpr double kStep = 1e-5;
    for (std::int64_t i = 0; i < gradient.numel(); ++i) {
      const std::int64_t column = i % gradient.size(1);
      if (column < first || column >= first + size) {
        continue;
      }
      const auto at = static_cast<std::size_t>(i);
      const double slope = (loss([&](Reference& r) { (r.*input)[at] += kStep; }) -
                            loss([&](Reference& r) { (r.*input)[at] -= kStep; })) /
                           (2 * kStep);
      CHECK(static_cast<double>(gradient.values<float>()[at]) ==
            Approx(slope).epsilon(1e-5).margin(1e-6));
    }
  };
  check(&Reference::q, tested.dq, 0, tested.dq.size(1));
  check(&Reference::kv, tested.dkv, 0, tested.dkv.size(1));
  check(&Reference::latent, tested.dlatent, 1, 2);
}

// Copies rows of all row tensors of `from` to the front of `to`.
void copy_tokens(const Case& from, std::int64_t first, std::int64_t count, Case& to,
                 std::int64_t to_first) {
  const auto copy = [&](const Tensor& source, Tensor& target) {
    const std::int64_t size = source.size(1);
    std::copy_n(source.data<float>() + first * size, count * size,
                target.mutable_data<float>() + to_first * size);
  };
  copy(from.q, to.q);
  copy(from.kv, to.kv);
  copy(from.latent, to.latent);
  copy(from.dout, to.dout);
}

std::int64_t count_row_differences(const Tensor& a, std::int64_t a_first, const Tensor& b,
                                   std::int64_t b_first, std::int64_t count) {
  return count_differences(a.narrow(a_first, a_first + count).values<float>(),
                           b.narrow(b_first, b_first + count).values<float>());
}

TEST_CASE(
    "Attention of a segment has the same bits alone, among others and on any number of threads") {
  const AttentionShape shape = GENERATE(kSmall, kOdd, kManyHeads);
  Stream one({}, 1);
  Case packed(shape, {0, 70, 71, 271, 300}, one);
  packed.forward();
  packed.backward();
  for (const int num_threads : {2, 3, 4}) {
    Stream stream({}, num_threads);
    Case threaded(shape, packed.starts, stream);
    threaded.forward();
    threaded.backward();
    CHECK(count_row_differences(threaded.out, 0, packed.out, 0, 300) == 0);
    CHECK(count_row_differences(threaded.lse, 0, packed.lse, 0, 300) == 0);
    CHECK(count_row_differences(threaded.dq, 0, packed.dq, 0, 300) == 0);
    CHECK(count_row_differences(threaded.dkv, 0, packed.dkv, 0, 300) == 0);
    CHECK(count_row_differences(threaded.dlatent, 0, packed.dlatent, 0, 300) == 0);
  }
  // The third segment of 200 tokens alone, and behind one of 33.
  for (const std::int32_t before : {0, 33}) {
    Stream stream({}, 2);
    const std::vector<std::int32_t> starts =
        before == 0 ? std::vector<std::int32_t>{0, 200} : std::vector<std::int32_t>{0, 33, 233};
    Case other(shape, starts, stream);
    copy_tokens(packed, 71, 200, other, before);
    const Tensor old_dlatent = random_tensor(other.dlatent.shape(), "old dlatent", stream);
    other.forward();
    other.backward();
    CHECK(count_row_differences(other.out, before, packed.out, 71, 200) == 0);
    CHECK(count_row_differences(other.lse, before, packed.lse, 71, 200) == 0);
    CHECK(count_row_differences(other.dq, before, packed.dq, 71, 200) == 0);
    CHECK(count_row_differences(other.dkv, before, packed.dkv, 71, 200) == 0);
    for (std::int64_t token = 0; token < 200; ++token) {
      for (std::int64_t column = 0; column < shape.rope_size; ++column) {
        const std::int64_t size = other.dlatent.size(1);
        REQUIRE(other.dlatent.values<float>()[static_cast<std::size_t>(
                    (before + token) * size + shape.rope_column + column)] ==
                packed.dlatent.values<float>()[static_cast<std::size_t>(
                    (71 + token) * size + shape.rope_column + column)]);
      }
    }
  }
}

TEST_CASE("An attention row does not depend on the tokens after it, nor on how many there are") {
  Stream stream;
  Case whole(kSmall, {0, 150}, stream);
  whole.forward();
  for (const std::int32_t size : {1, 2, 6, 7, 16, 17, 63, 64, 65, 127, 129, 149}) {
    Case part(kSmall, {0, size}, stream);
    copy_tokens(whole, 0, size, part, 0);
    part.forward();
    CHECK(count_row_differences(part.out, 0, whole.out, 0, size) == 0);
    CHECK(count_row_differences(part.lse, 0, whole.lse, 0, size) == 0);
  }
}

// Tokens [first, end) of a tensor become NaN, +inf and -inf in turn.
void poison(Tensor& x, std::int64_t first, std::int64_t end) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float values[] = {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity};
  for (std::int64_t i = first * x.size(1); i < end * x.size(1); ++i) {
    x.mutable_data<float>()[i] = values[i % 3];
  }
}

TEST_CASE("NaN and Inf in later tokens and in other segments do not reach an attention row") {
  const AttentionShape shape = GENERATE(kSmall, kOdd, kManyHeads);
  Stream stream({}, 1);
  const std::vector<std::int32_t> starts = {0, 70, 210, 300};
  Case clean(shape, starts, stream);
  clean.forward();
  clean.backward();
  for (const std::int64_t num_clean : {1, 2, 5, 6, 9, 63, 64, 65, 127, 131, 140}) {
    const std::int64_t first = starts[1];
    const std::int64_t end = first + num_clean;
    INFO("tokens " << first << " to " << end << " are clean");
    Case poisoned(shape, starts, stream);
    for (Tensor* const x : {&poisoned.q, &poisoned.kv, &poisoned.latent, &poisoned.dout}) {
      poison(*x, 0, first);
      poison(*x, end, poisoned.num_tokens);
    }
    poisoned.forward();
    poisoned.backward();
    CHECK(count_row_differences(poisoned.out, first, clean.out, first, num_clean) == 0);
    CHECK(count_row_differences(poisoned.lse, first, clean.lse, first, num_clean) == 0);
    CHECK(count_row_differences(poisoned.dq, first, clean.dq, first, num_clean) == 0);
    if (end == starts[2]) {  // otherwise keys have gradients of the poisoned queries after them
      CHECK(count_row_differences(poisoned.dkv, first, clean.dkv, first, num_clean) == 0);
    }
  }
}

TEST_CASE("NaN and Inf in the queries before a key do not reach the key's gradient") {
  const AttentionShape shape = GENERATE(kSmall, kOdd, kManyHeads);
  Stream stream({}, 1);
  Case clean(shape, {0, 140}, stream);
  clean.forward();
  clean.backward();
  for (const std::int64_t first : {1, 2, 5, 6, 9, 63, 64, 65, 127, 131, 139}) {
    INFO("queries before " << first << " are poisoned");
    Case poisoned(shape, {0, 140}, stream);
    poison(poisoned.q, 0, first);
    poison(poisoned.dout, 0, first);
    poisoned.forward();
    poisoned.backward();
    CHECK(count_row_differences(poisoned.dkv, first, clean.dkv, first, 140 - first) == 0);
  }
}

TEST_CASE("Attention survives scores far apart and far from zero") {
  Stream stream;
  Case tested(kSmall, {0, 130}, stream);
  for (float& value : tested.q.mutable_values<float>()) {
    value *= 60;
  }
  Reference reference(tested);
  reference.run();
  tested.forward();
  CHECK(relative_error(tested.out, reference.out) < 1e-4);
  CHECK(relative_error(tested.lse, reference.lse) < 1e-6);
}

TEST_CASE("Attention refuses segments and shapes that do not fit") {
  Stream stream;
  const auto forward_with = [&](const std::vector<std::int32_t>& starts) {
    Case tested(kOdd, {0, 20}, stream);
    tested.segments =
        Tensor::empty({static_cast<std::int64_t>(starts.size())}, DType::kInt32, stream);
    std::copy(starts.begin(), starts.end(), tested.segments.mutable_data<std::int32_t>());
    tested.forward();
  };
  CHECK_NOTHROW(forward_with({0, 7, 20}));
  CHECK_THROWS_AS(forward_with({0, 7, 19}), InternalError);
  CHECK_THROWS_AS(forward_with({1, 20}), InternalError);
  CHECK_THROWS_AS(forward_with({0, 12, 11, 20}), InternalError);
  Case narrow(kOdd, {0, 20}, stream);
  narrow.shape.rope_column += 2;  // beyond the columns of latent
  CHECK_THROWS_AS(narrow.forward(), InternalError);
  Case heads(kOdd, {0, 20}, stream);
  heads.shape.num_heads = 2;
  CHECK_THROWS_AS(heads.forward(), InternalError);
  CHECK_THROWS_AS(heads.backward(), InternalError);
}

// Heads [first, first + part.num_heads) of `whole` on one tensor rank: dlatent.
Tensor dlatent_of_heads(const Case& whole, const AttentionShape& part, int first, Stream& stream) {
  Case rank(part, whole.starts, stream);
  const auto take = [&](const Tensor& from, Tensor& to, int per_head) {
    copy_columns(from, first * per_head, to, 0, part.num_heads * per_head, stream);
  };
  take(whole.q, rank.q, part.nope_size + part.rope_size);
  take(whole.kv, rank.kv, part.nope_size + part.value_size);
  take(whole.dout, rank.dout, part.value_size);
  copy(whole.latent, rank.latent, stream);
  rank.forward();
  rank.backward();
  return rank.dlatent;
}

TEST_CASE("The gradient of the shared rope key does not depend on how ranks cut the heads") {
  const auto num_threads = GENERATE(1, 2);
  Stream stream({}, num_threads);
  AttentionShape shape{.num_heads = 24,  // more than one group of heads of the kernel
                       .nope_size = 5,
                       .rope_size = 4,
                       .value_size = 3,
                       .rope_column = 2,
                       .scale = 0.3F,
                       .num_chunks = 4};
  Case whole(shape, {0, 20, 90}, stream);
  whole.forward();
  whole.backward();
  for (const int num_ranks : {2, 4}) {
    AttentionShape part = shape;
    part.num_heads = shape.num_heads / num_ranks;
    part.num_chunks = shape.num_chunks / num_ranks;
    std::vector<Tensor> sums;
    for (int rank = 0; rank < num_ranks; ++rank) {
      sums.push_back(dlatent_of_heads(whole, part, rank * part.num_heads, stream));
    }
    for (std::size_t step = 1; step < sums.size(); step *= 2) {
      for (std::size_t rank = 0; rank < sums.size(); rank += 2 * step) {
        add_in_place(sums[rank], sums[rank + step], stream);
      }
    }
    for (std::int64_t token = 0; token < whole.num_tokens; ++token) {
      for (std::int64_t column = 2; column < 6; ++column) {
        REQUIRE(sums[0].data<float>()[token * 7 + column] ==
                whole.dlatent.data<float>()[token * 7 + column]);
      }
    }
  }
}

}  // namespace
}  // namespace fathom::kernels
