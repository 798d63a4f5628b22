#include "kernels/balance_coefficients.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/rng.h"
#include "kernels/router.h"
#include "tests/kernels/op_reference.h"
#include "tests/support/catch.h"

namespace fathom::kernels {
namespace {

constexpr std::int64_t kTokens = 7;
constexpr std::int64_t kExperts = 6;
constexpr std::int64_t kGroups = 3;
constexpr std::int64_t kTopK = 2;
constexpr std::int64_t kSequences = 3;

BalanceOptions small_balance() {
  BalanceOptions options;
  options.sequence_length = kTokens;
  options.top_k = kTopK;
  options.max_groups_per_token = 2;
  options.scale = 1.0 / 5;
  return options;
}

// One sequence, token by token.
struct Sequence {
  std::vector<double> shares;         // [tokens, experts], multiples of 2^-40
  std::vector<std::int64_t> chosen;   // [tokens, top_k]
  std::vector<std::int64_t> largest;  // [tokens, top_k]: the other choice, by unbiased scores
};

Sequence draw_sequence(std::uint64_t seed) {
  const RandomSource random(seed, "balance");
  Sequence sequence;
  for (std::uint64_t i = 0; i < kTokens * kExperts; ++i) {
    sequence.shares.push_back(std::ldexp(
        std::round(std::ldexp(static_cast<double>(random.uniform(i)), kScoreFractionBits)),
        -kScoreFractionBits));
  }
  for (std::uint64_t t = 0; t < kTokens; ++t) {
    for (std::vector<std::int64_t>* choice : {&sequence.chosen, &sequence.largest}) {
      const std::uint64_t key = 1000 + 2 * t + (choice == &sequence.chosen ? 0 : 1);
      const auto first = static_cast<std::int64_t>(random.below(key, kExperts - 1));
      choice->push_back(first);
      choice->push_back(first + 1 +
                        static_cast<std::int64_t>(random.below(
                            key + 500, static_cast<std::uint64_t>(kExperts - 1 - first))));
    }
  }
  return sequence;
}

// Slots with expert i.
double count_of(const std::vector<std::int64_t>& choice, std::int64_t expert) {
  return static_cast<double>(std::count(choice.begin(), choice.end(), expert));
}

// The losses by the equations of the papers (model/balance_loss.h), in double; one sequence's
// share of the mean over the sequences.
double loss_of(const BalanceOptions& options, const Sequence& sequence) {
  constexpr auto kPerSlot = static_cast<double>(kExperts) / (kTopK * kTokens);
  const auto share = [&](std::int64_t expert) {  // P_i
    double sum = 0.0;
    for (std::int64_t t = 0; t < kTokens; ++t) {
      sum += sequence.shares[static_cast<std::size_t>(t * kExperts + expert)];
    }
    return sum / kTokens;
  };
  double loss = 0.0;
  for (std::int64_t i = 0; i < kExperts; ++i) {
    loss += options.sequence_coefficient * kPerSlot * count_of(sequence.largest, i) * share(i);
    loss += options.expert_coefficient * kPerSlot * count_of(sequence.chosen, i) * share(i);
  }
  constexpr std::int64_t kGroupSize = kExperts / kGroups;
  for (std::int64_t d = 0; d < kGroups; ++d) {
    double load = 0.0;   // f'_d
    double group = 0.0;  // P'_d
    for (std::int64_t i = d * kGroupSize; i < (d + 1) * kGroupSize; ++i) {
      load += kPerSlot * count_of(sequence.chosen, i) / kGroupSize;
      group += share(i);
    }
    double tokens = 0.0;
    for (std::size_t t = 0; t < kTokens; ++t) {
      const bool is_here = sequence.chosen[kTopK * t] / kGroupSize == d ||
                           sequence.chosen[kTopK * t + 1] / kGroupSize == d;
      tokens += is_here ? 1.0 : 0.0;
    }
    loss += options.device_coefficient * load * group;
    loss += options.communication_coefficient * kGroups / (2.0 * kTokens) * tokens * group;
  }
  return options.scale * loss;
}

BalanceStatistics statistics_of(const std::vector<Sequence>& sequences, Stream& stream) {
  std::vector<std::int64_t> unbiased, sums, selected, groups;
  for (const Sequence& sequence : sequences) {
    for (std::int64_t i = 0; i < kExperts; ++i) {
      unbiased.push_back(static_cast<std::int64_t>(count_of(sequence.largest, i)));
      selected.push_back(static_cast<std::int64_t>(count_of(sequence.chosen, i)));
      double sum = 0.0;
      for (std::int64_t t = 0; t < kTokens; ++t) {
        sum += sequence.shares[static_cast<std::size_t>(t * kExperts + i)];
      }
      sums.push_back(static_cast<std::int64_t>(std::ldexp(sum, kScoreFractionBits)));
    }
    for (std::int64_t d = 0; d < kGroups; ++d) {
      std::int64_t tokens = 0;
      for (std::size_t t = 0; t < kTokens; ++t) {
        const std::int64_t first = sequence.chosen[kTopK * t] / (kExperts / kGroups);
        const std::int64_t second = sequence.chosen[kTopK * t + 1] / (kExperts / kGroups);
        tokens += first == d || second == d ? 1 : 0;
      }
      groups.push_back(tokens);
    }
  }
  const Shape per_expert{kSequences, kExperts};
  return {tensor_of(unbiased, per_expert, stream), tensor_of(sums, per_expert, stream),
          tensor_of(selected, per_expert, stream),
          tensor_of(groups, {kSequences, kGroups}, stream)};
}

}  // namespace

TEST_CASE("Balance losses and their coefficients are those of the papers, alone and together") {
  Stream stream;
  std::vector<Sequence> sequences;
  for (std::uint64_t seed = 1; seed <= kSequences; ++seed) {
    sequences.push_back(draw_sequence(seed));
  }
  BalanceOptions options = small_balance();
  const int which = GENERATE(0, 1, 2, 3, 4);
  const auto coefficient_if = [&](int loss, float value) {
    return which == loss || which == 4 ? value : 0.0F;
  };
  options.sequence_coefficient = coefficient_if(0, 0.25F);
  options.expert_coefficient = coefficient_if(1, 0.5F);
  options.device_coefficient = coefficient_if(2, 0.75F);
  options.communication_coefficient = coefficient_if(3, 2.0F);
  const BalanceStatistics statistics = statistics_of(sequences, stream);
  Tensor coefficient = Tensor::empty({kSequences, kExperts}, DType::kFloat32, stream);
  Tensor losses = Tensor::empty({kSequences}, DType::kInt64, stream);
  balance_coefficients(options, statistics, coefficient, losses, stream);
  std::vector<double> want;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const double loss = std::bit_cast<double>(losses.values<std::int64_t>()[s]);
    INFO("losses " << which << ", sequence " << s);
    CHECK(loss == Approx(loss_of(options, sequences[s])).epsilon(1e-12));
    CHECK(loss > 0.0);
    // The loss is linear in the shares, its loads being constants.
    for (std::size_t i = 0; i < kExperts; ++i) {
      Sequence moved = sequences[s];
      moved.shares[3 * kExperts + i] += 1.0;
      want.push_back(loss_of(options, moved) - loss_of(options, sequences[s]));
    }
  }
  CHECK(largest_error(coefficient, want) < 1e-7);
}

TEST_CASE("Balance coefficients refuse statistics of other sizes") {
  Stream stream;
  const BalanceOptions options = small_balance();
  const auto counts = [&](const Shape& shape) {
    return Tensor::zeros(shape, DType::kInt64, stream);
  };
  const Shape per_expert{kSequences, kExperts};
  Tensor coefficient = Tensor::empty(per_expert, DType::kFloat32, stream);
  Tensor losses = counts({kSequences});
  const Tensor whole = counts(per_expert);
  const Tensor groups = counts({kSequences, kGroups});
  CHECK_NOTHROW(
      balance_coefficients(options, {whole, whole, whole, groups}, coefficient, losses, stream));
  const Tensor short_one = counts({kSequences, kExperts - 1});
  CHECK_THROWS_AS(
      balance_coefficients(options, {whole, short_one, whole, groups}, coefficient, losses, stream),
      InternalError);
  CHECK_THROWS_AS(balance_coefficients(options, {whole, whole, whole, counts({kSequences, 4})},
                                       coefficient, losses, stream),
                  InternalError);
  Tensor floats = Tensor::empty({kSequences}, DType::kFloat32, stream);
  CHECK_THROWS_AS(
      balance_coefficients(options, {whole, whole, whole, groups}, coefficient, floats, stream),
      InternalError);
}

}  // namespace fathom::kernels
