#include "kernels/sample.h"

#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<std::int32_t> sample(const Tensor& logits, std::int64_t num_allowed,
                                 const SamplingOptions& options, Stream& stream) {
  std::vector<std::int64_t> numbers;
  for (std::int64_t i = 0; i < logits.size(0); ++i) {
    // Numbers of the random source below and beyond 2^32.
    const auto row = sample_key(RandomSource(7, concat("row ", i)), i % 2 == 0 ? 3 * i : i << 40);
    numbers.insert(numbers.end(), row.begin(), row.end());
  }
  Tensor keys = Tensor::empty(Shape{logits.size(0), 2}, DType::kInt64, stream);
  from_host<std::int64_t>(numbers, keys, stream);
  Tensor used_up = logits;
  Tensor tokens = Tensor::empty(Shape{logits.size(0)}, DType::kInt32, stream);
  sample_tokens(options, keys, num_allowed, used_up, tokens, stream);
  return to_host<std::int32_t>(tokens, stream);
}

// A copy: the logits are divided by the temperature where they lie.
Tensor copy_of(const Tensor& tensor, Stream& stream) {
  return tensor_of(vector_of(tensor), tensor.shape(), stream);
}

void check_samples(const Tensor& logits, std::int64_t num_allowed, const SamplingOptions& options,
                   Devices& devices) {
  INFO(logits.size(1) << " ids, temperature " << options.temperature << ", top_k " << options.top_k
                      << ", top_p " << options.top_p);
  const auto want = sample(copy_of(logits, devices.cpu), num_allowed, options, devices.cpu);
  CHECK(sample(devices.to_cuda(logits), num_allowed, options, devices.cuda) == want);
}

Tensor random_logits(std::int64_t num_rows, std::int64_t vocab_size, Devices& devices) {
  Tensor logits = random_tensor(Shape{num_rows, vocab_size}, "logits", devices.cpu);
  for (float& logit : logits.mutable_values<float>()) {
    logit = std::round(logit * 32.0F) / 4.0F;  // with ties
  }
  return logits;
}

}  // namespace

TEST_CASE("Tokens sampled on CUDA are those of the CPU") {
  Devices devices;
  const Tensor logits = random_logits(10, 75, devices);
  for (const float temperature : {0.0F, 0.3F, 1.0F, 2.5F}) {
    for (const int top_k : {0, 1, 5, 1000}) {
      for (const float top_p : {1.0F, 0.9F, 0.4F, 1e-6F}) {
        check_samples(logits, 70, {temperature, top_k, top_p}, devices);
      }
    }
  }
  const Tensor wide = random_logits(2, 70001, devices);
  for (const int top_k : {0, 3000}) {
    for (const float top_p : {1.0F, 0.95F}) {
      check_samples(wide, 70001, {1.0F, top_k, top_p}, devices);
    }
  }
  check_samples(random_logits(0, 5, devices), 5, {}, devices);
  check_samples(random_logits(3, 1, devices), 1, {}, devices);
}

TEST_CASE("On CUDA ties go to the lowest id, and top_p keeps no more than it must") {
  Devices devices;
  const Tensor one = tensor_of<float>({1, 3, 3, 2}, Shape{1, 4}, devices.cpu);
  CHECK(sample(devices.to_cuda(one), 4, {.temperature = 0.0F}, devices.cuda)[0] == 1);
  const Tensor even = devices.to_cuda(filled(Shape{40, 4}, 0.5F, devices.cpu));
  const auto largest = [&](const SamplingOptions& options) {
    return std::ranges::max(sample(even, 4, options, devices.cuda));
  };
  CHECK(largest({}) == 3);
  CHECK(largest({.top_p = 0.5F}) == 1);  // shares 1/4 each: ids 0 and 1 reach it
  CHECK(largest({.top_p = 1e-9F}) == 0);
  CHECK(largest({.top_k = 3}) == 2);
  CHECK(largest({.top_k = 3, .top_p = 0.6F}) == 1);
}

TEST_CASE("On CUDA a row whose logits are not finite gets the token -1, others their own") {
  Devices devices;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor logits = tensor_of<float>({1, nan, 2,                   //
                                          1, 2, nan,                   // beyond those allowed
                                          kInfinity, 1, 2,             //
                                          -kInfinity, -kInfinity, 1,   //
                                          -kInfinity, 1, -kInfinity},  //
                                         Shape{5, 3}, devices.cpu);
  for (const SamplingOptions& options :
       {SamplingOptions{}, SamplingOptions{.temperature = 0.0F}, SamplingOptions{.top_p = 0.5F}}) {
    CHECK(sample(devices.to_cuda(logits), 2, options, devices.cuda) ==
          std::vector<std::int32_t>{-1, -1, -1, -1, 1});
  }
}

TEST_CASE("Log-probabilities on CUDA are those of the CPU") {
  Devices devices;
  Tensor logits = random_logits(3, 517, devices);
  Tensor there = devices.to_cuda(logits);
  const Tensor tokens = tensor_of<std::int32_t>({0, 516, 77}, Shape{3}, devices.cpu);
  Tensor want = Tensor::empty(Shape{3}, DType::kFloat32, devices.cpu);
  Tensor found = devices.empty(Shape{3}, DType::kFloat32);
  token_logprobs(logits, tokens, 1, want, devices.cpu);
  token_logprobs(there, devices.to_cuda(tokens), 1, found, devices.cuda);
  CHECK(largest_error(found, want, devices) < 2e-6);
}

}  // namespace fathom::kernels
