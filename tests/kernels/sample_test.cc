#include "kernels/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"
#include "kernels/cross_entropy.h"
#include "tests/kernels/op_reference.h"

namespace fathom::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What the random numbers of a row are for.
struct SampleKey {
  RandomSource random;
  std::int64_t position = 0;
};

// The definition in sample.h, one id after the other.
std::int32_t reference_token(std::vector<float> logits, std::int64_t num_allowed,
                             const SamplingOptions& options, const SampleKey& key) {
  const std::size_t vocab_size = logits.size();
  logits.resize(static_cast<std::size_t>(num_allowed));
  if (options.temperature == 0.0F) {
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) -
                                     logits.begin());
  }
  for (float& logit : logits) {
    logit *= 1.0F / options.temperature;
  }
  std::vector<std::size_t> ids(logits.size());
  for (std::size_t id = 0; id < ids.size(); ++id) {
    ids[id] = id;
  }
  std::sort(ids.begin(), ids.end(), [&](std::size_t a, std::size_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  if (options.top_k > 0) {
    ids.resize(std::min(ids.size(), static_cast<std::size_t>(options.top_k)));
  }
  const auto weight = [&](std::size_t id) {
    return std::exp(static_cast<double>(logits[id]) - static_cast<double>(logits[ids[0]]));
  };
  double total = 0.0;
  for (const std::size_t id : ids) {
    total += weight(id);
  }
  double sum = 0.0;
  std::int32_t best = -1;
  double best_sum = -std::numeric_limits<double>::infinity();
  for (const std::size_t id : ids) {
    if (options.top_p < 1.0F && sum >= static_cast<double>(options.top_p) * total && best >= 0) {
      break;
    }
    sum += weight(id);
    const double uniform =
        key.random.uniform(static_cast<std::uint64_t>(key.position) * vocab_size + id);
    const double noisy = static_cast<double>(logits[id]) - std::log(-std::log(uniform));
    if (noisy > best_sum) {
      best_sum = noisy;
      best = static_cast<std::int32_t>(id);
    }
  }
  return best;
}

std::vector<SampleKey> make_keys(std::int64_t count) {
  std::vector<SampleKey> keys;
  for (std::int64_t i = 0; i < count; ++i) {
    keys.push_back({RandomSource(7, concat("row ", i)), 3 * i});
  }
  return keys;
}

std::vector<std::int32_t> sample(const std::vector<float>& logits, std::int64_t num_rows,
                                 std::int64_t num_allowed, const SamplingOptions& options,
                                 Stream& stream) {
  const auto vocab_size = static_cast<std::int64_t>(logits.size()) / num_rows;
  Tensor rows = tensor_of(logits, {num_rows, vocab_size}, stream);
  Tensor tokens = Tensor::empty({num_rows}, DType::kInt32, stream);
  std::vector<std::int64_t> numbers;
  for (const SampleKey& key : make_keys(num_rows)) {
    const auto row = sample_key(key.random, key.position);
    numbers.insert(numbers.end(), row.begin(), row.end());
  }
  const Tensor keys = tensor_of(numbers, {num_rows, 2}, stream);
  sample_tokens(options, keys, num_allowed, rows, tokens, stream);
  return vector_of<std::int32_t>(tokens);
}

TEST_CASE("Sampled tokens are those of the scalar definition") {
  const auto num_threads = GENERATE(1, 3);
  Stream stream(Device{}, num_threads);
  constexpr std::int64_t kRows = 40;
  constexpr std::int64_t kVocabulary = 75;
  constexpr std::int64_t kAllowed = 70;
  std::vector<float> logits = vector_of(random_tensor({kRows, kVocabulary}, "logits", stream));
  for (float& logit : logits) {
    logit = std::round(logit * 8.0F) / 2.0F;  // with ties
  }
  for (const float temperature : {0.0F, 0.3F, 1.0F, 2.5F}) {
    for (const int top_k : {0, 1, 5, 1000}) {
      for (const float top_p : {1.0F, 0.9F, 0.4F, 1e-6F}) {
        const SamplingOptions options{temperature, top_k, top_p};
        INFO("temperature " << temperature << ", top_k " << top_k << ", top_p " << top_p);
        const auto found = sample(logits, kRows, kAllowed, options, stream);
        for (std::int64_t i = 0; i < kRows; ++i) {
          const auto first = logits.begin() + i * kVocabulary;
          REQUIRE(found[static_cast<std::size_t>(i)] ==
                  reference_token({first, first + kVocabulary}, kAllowed, options,
                                  make_keys(kRows)[static_cast<std::size_t>(i)]));
        }
      }
    }
  }
}

TEST_CASE("Sampled tokens have the frequencies of their probabilities") {
  Stream stream;
  constexpr std::int64_t kRows = 20000;
  std::vector<float> logits;
  for (std::int64_t i = 0; i < kRows; ++i) {
    logits.insert(logits.end(), {std::log(0.5F), std::log(0.3F), -kInfinity, std::log(0.2F)});
  }
  std::vector<double> share(4);
  for (const std::int32_t token : sample(logits, kRows, 4, {}, stream)) {
    share[static_cast<std::size_t>(token)] += 1.0 / static_cast<double>(kRows);
  }
  // Four standard deviations.
  CHECK(std::abs(share[0] - 0.5) < 0.0142);
  CHECK(std::abs(share[1] - 0.3) < 0.0130);
  CHECK(share[2] == 0.0);
}

TEST_CASE("Ties go to the lowest id, and top_p keeps no more than it must") {
  Stream stream;
  CHECK(sample({1, 3, 3, 2}, 1, 4, {.temperature = 0.0F}, stream)[0] == 1);
  // Shares 1/4 each: 0.5 is reached by ids 0 and 1, and a top_p next to 0 leaves id 0.
  std::vector<float> even(400, 0.5F);
  const auto half = sample(even, 100, 4, {.top_p = 0.5F}, stream);
  CHECK(*std::max_element(half.begin(), half.end()) == 1);
  CHECK(*std::min_element(half.begin(), half.end()) == 0);
  const auto least = sample(even, 100, 4, {.top_p = 1e-9F}, stream);
  CHECK(*std::max_element(least.begin(), least.end()) == 0);
  const auto two = sample(even, 100, 4, {.top_k = 2}, stream);
  CHECK(*std::max_element(two.begin(), two.end()) == 1);
}

TEST_CASE("Logits that are not finite are refused, in words that help") {
  Stream stream;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::vector<float>> bad{
      {1, nan, 2}, {1, 2, nan}, {kInfinity, 1, 2}, {-kInfinity, -kInfinity, 1}};
  for (const auto& logits : bad) {
    CHECK_THROWS_AS(sample(logits, 1, 2, {}, stream), ConfigError);
  }
  CHECK(sample({-kInfinity, 1, -kInfinity}, 1, 3, {}, stream)[0] == 1);
}

TEST_CASE("Log-probabilities are minus the loss of the training forward, bit for bit") {
  Stream stream;
  constexpr std::int64_t kRows = 9;
  constexpr std::int64_t kVocabulary = 128;
  constexpr std::int64_t kParts = 2;  // tensor ranks, of two chunks each
  Tensor logits = random_tensor({kRows, kVocabulary}, "logits", stream);
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < kRows; ++i) {
    ids.push_back(i * 14);
  }
  const Tensor tokens = tensor_of(ids, {kRows}, stream);
  std::vector<Tensor> parts(kParts);
  std::vector<Tensor> sums(kParts);
  Tensor row_max = filled({kRows}, -kInfinity, stream);
  for (std::int64_t p = 0; p < kParts; ++p) {
    const auto part = static_cast<std::size_t>(p);
    parts[part] = Tensor::empty({kRows, kVocabulary / kParts}, DType::kFloat32, stream);
    for (std::int64_t i = 0; i < kRows; ++i) {
      std::copy_n(logits.data<float>() + i * kVocabulary + p * kVocabulary / kParts,
                  kVocabulary / kParts,
                  parts[part].mutable_data<float>() + i * kVocabulary / kParts);
    }
    Tensor largest = Tensor::empty({kRows}, DType::kFloat32, stream);
    sums[part] = Tensor::empty({2, kRows}, DType::kFloat32, stream);
    cross_entropy_row_max(parts[part], largest, sums[part], stream);
    for (std::int64_t i = 0; i < kRows; ++i) {
      row_max.mutable_data<float>()[i] =
          std::max(row_max.data<float>()[i], largest.data<float>()[i]);
    }
  }
  for (std::int64_t p = 0; p < kParts; ++p) {
    const auto part = static_cast<std::size_t>(p);
    cross_entropy_exp_sum(parts[part], {tokens, p * kVocabulary / kParts, 2}, row_max, sums[part],
                          stream);
  }
  for (std::int64_t i = 0; i < 2 * kRows; ++i) {
    sums[0].mutable_data<float>()[i] += sums[1].data<float>()[i];
  }
  Tensor loss = Tensor::empty({kRows}, DType::kFloat32, stream);
  cross_entropy_loss(sums[0], filled({kRows}, 1.0F, stream), loss, stream);
  Tensor found = Tensor::empty({kRows}, DType::kFloat32, stream);
  token_logprobs(logits, tokens, 4, found, stream);
  for (std::int64_t i = 0; i < kRows; ++i) {
    CHECK(found.data<float>()[i] == -loss.data<float>()[i]);
  }
}

}  // namespace
}  // namespace fathom::kernels
