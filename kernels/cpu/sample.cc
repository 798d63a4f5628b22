#include "kernels/sample.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "kernels/cpu/random_words.h"
#include "kernels/cpu/rows.h"

namespace fathom::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void check_row(std::span<const float> row, std::size_t num_allowed, std::int64_t index) {
  int num_unsound = 0;  // without an early end: for the vector unit
  for (const float logit : row) {
    num_unsound += logit < kInfinity ? 0 : 1;  // NaN too
  }
  const bool has_choice =
      simd::row_max(row.data(), static_cast<std::int64_t>(num_allowed)) > -kInfinity;
  if (num_unsound > 0 || !has_choice) {
    throw ConfigError(concat("the logits of row ", index,
                             " are not finite: the weights have diverged; take an earlier "
                             "checkpoint"));
  }
}

// The ids that may be drawn, by logit and so by probability, then by id.
class Shortlist {
 public:
  const std::vector<std::int32_t>& choose(std::span<const float> logits,
                                          const SamplingOptions& options) {
    const auto size = std::ssize(logits);
    weights_.resize(logits.size());
    simd::row_exp_sum(logits.data(), simd::row_max(logits.data(), size), weights_.data(), size);
    ids_.resize(logits.size());
    std::iota(ids_.begin(), ids_.end(), 0);
    const std::int64_t kept =
        options.top_k == 0 ? size : std::min<std::int64_t>(options.top_k, size);
    std::partial_sort(ids_.begin(), ids_.begin() + kept, ids_.end(),
                      [&](std::int32_t a, std::int32_t b) {
                        const float of_a = logits[static_cast<std::size_t>(a)];
                        const float of_b = logits[static_cast<std::size_t>(b)];
                        return of_a != of_b ? of_a > of_b : a < b;
                      });
    ids_.resize(static_cast<std::size_t>(kept));
    if (options.top_p < 1.0F) {
      cut_to_share(static_cast<double>(options.top_p));
    }
    return ids_;
  }

 private:
  float weight(std::int32_t id) const { return weights_[static_cast<std::size_t>(id)]; }

  void cut_to_share(double share) {
    double total = 0.0;
    for (const std::int32_t id : ids_) {
      total += static_cast<double>(weight(id));
    }
    double sum = 0.0;
    std::size_t count = 0;
    while (count < ids_.size() && (count == 0 || sum < share * total)) {
      sum += static_cast<double>(weight(ids_[count++]));
    }
    ids_.resize(count);
  }

  std::vector<float> weights_;  // exp(logit - largest)
  std::vector<std::int32_t> ids_;
};

// The largest sum of logit and noise so far.
class GumbelRace {
 public:
  // key: a row of the keys
  GumbelRace(std::span<const float> logits, const std::int64_t* key, std::int64_t vocab_size)
      : logits_(logits),
        random_(std::bit_cast<std::array<std::uint32_t, 2>>(key[0])),
        first_index_(static_cast<std::uint64_t>(key[1]) * static_cast<std::uint64_t>(vocab_size)) {}

  void enter(std::int32_t id) {
    const auto index = static_cast<std::size_t>(id);
    const double uniform = random_.uniform(first_index_ + index);
    const double sum = static_cast<double>(logits_[index]) - std::log(-std::log(uniform));
    if (sum > best_ || (sum == best_ && id < winner_)) {
      best_ = sum;
      winner_ = id;
    }
  }
  // All ids, most of which a bound of their noise spares.
  void enter_all() {
    const auto size = std::ssize(logits_);
    simd::for_each_block(size, [&](std::int64_t first, auto extent) {
      std::uint32_t words[simd::kLanes];
      cpu::upper_random_words(random_.key(), first_index_ + static_cast<std::uint64_t>(first),
                              words);
      float rest[simd::kLanes];  // at most 1 - u, or 0
      for (int lane = 0; lane < simd::kLanes; ++lane) {
        rest[lane] = static_cast<float>(static_cast<std::int32_t>(~words[lane] >> 1)) * 0x1p-31F;
      }
      // -log(-log(u)) <= -log(1 - u). In float, so with some slack.
      float bound[simd::kLanes];
      simd::store(
          simd::load_or(logits_.data() + first, extent, -kInfinity) - simd::log(simd::load(rest)),
          bound);
      const double slack = 1e-3 + 1e-6 * std::abs(best_);
      const auto least = static_cast<float>(best_ - slack);
      const std::int64_t end = std::min<std::int64_t>(simd::kLanes, size - first);
      for (std::int64_t lane = 0; lane < end; ++lane) {
        if (bound[lane] >= least) {
          enter(static_cast<std::int32_t>(first + lane));
        }
      }
    });
  }
  std::int32_t winner() const noexcept { return winner_; }

 private:
  std::span<const float> logits_;
  RandomSource random_;
  std::uint64_t first_index_;
  double best_ = -std::numeric_limits<double>::infinity();
  std::int32_t winner_ = std::numeric_limits<std::int32_t>::max();
};

// The first of the largest.
std::int32_t likeliest(std::span<const float> logits) {
  const float largest = simd::row_max(logits.data(), std::ssize(logits));
  return static_cast<std::int32_t>(std::find(logits.begin(), logits.end(), largest) -
                                   logits.begin());
}

std::int32_t draw(std::span<const float> logits, const SamplingOptions& options,
                  const std::int64_t* key, std::int64_t vocab_size, Shortlist& shortlist) {
  GumbelRace race(logits, key, vocab_size);
  race.enter(likeliest(logits));  // never cut off; a good start spares the others most
  if (options.top_k == 0 && options.top_p == 1.0F) {
    race.enter_all();
  } else {
    for (const std::int32_t id : shortlist.choose(logits, options)) {
      race.enter(id);
    }
  }
  return race.winner();
}

void sample_tokens_cpu(const SamplingOptions& options, const Tensor& keys, std::int64_t num_allowed,
                       const Tensor& logits, Tensor& tokens, Stream& stream) {
  const std::int64_t vocab_size = logits.size(1);
  const float* const rows = logits.data<float>();
  const bool is_greedy = options.temperature == 0.0F;
  const std::int64_t* const row_keys = is_greedy ? nullptr : keys.data<std::int64_t>();
  auto* const chosen = tokens.mutable_data<std::int32_t>();
  stream.parallel_for(logits.size(0), 1, [&](std::int64_t begin, std::int64_t end) {
    Shortlist shortlist;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::span<const float> row(rows + i * vocab_size, static_cast<std::size_t>(vocab_size));
      check_row(row, static_cast<std::size_t>(num_allowed), i);
      const auto allowed = row.first(static_cast<std::size_t>(num_allowed));
      chosen[i] = is_greedy ? likeliest(allowed)
                            : draw(allowed, options, row_keys + 2 * i, vocab_size, shortlist);
    }
  });
}

const KernelRegistration register_sample_tokens(sample_tokens_slot, DeviceType::kCpu,
                                                sample_tokens_cpu);

}  // namespace
}  // namespace fathom::kernels
