// Updates from integer gradients on a device, with bfloat16 values beside float32 masters: the same
// on any number of replicas.
#include "optim/adamw.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <deque>
#include <vector>

#include "core/bfloat16.h"
#include "core/host_copy.h"
#include "core/rng.h"
#include "kernels/exact_sums.h"
#include "kernels/gradient_norm.h"
#include "optim/grad_clip.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

namespace fathom::optim {
namespace {

constexpr std::array<std::int64_t, 3> kLengths = {600, 77, 1000};
constexpr int kNumSteps = 3;
constexpr int kNumTokens = 6;  // each contributes to every element
constexpr Device kDevice{DeviceType::kCuda, 0};

struct Result {
  std::vector<double> squares;  // of each step's gradients
  std::vector<BFloat16> values;
  bool operator==(const Result&) const = default;
};

// Within +- 2^-6, in multiples of 2^-48.
std::int64_t contribution(int step, int token, std::uint64_t element) {
  constexpr std::uint64_t kRange = std::uint64_t{1} << 43;
  const RandomSource random(3, concat("step ", step, " token ", token));
  return static_cast<std::int64_t>(random.below(element, kRange) - kRange / 2);
}

// Of this rank's tokens to a parameter whose first element is number `first` of all.
void add_contributions(parallel::Parameter& parameter, std::uint64_t first, int step,
                       Stream& stream) {
  std::vector<std::int64_t> sums(static_cast<std::size_t>(parameter.shape.numel()));
  const parallel::Communicator& replicas = *parameter.replicas;
  for (int token = replicas.rank(); token < kNumTokens; token += replicas.world_size()) {
    for (std::size_t i = 0; i < sums.size(); ++i) {
      sums[i] += contribution(step, token, first + i);
    }
  }
  from_host<std::int64_t>(sums, parameter.grad.sum, stream);
  parameter.grad.is_empty = false;
}

// The exact sums over all gradients that the update's scale comes from -> that of their squares.
double set_scale(parallel::ParameterBuffer& buffer, parallel::Communicator& replicas, Tensor& scale,
                 Stream& stream) {
  Tensor squares = Tensor::zeros(Shape{1, kernels::kExactSumIntegers}, DType::kInt64, stream);
  Tensor counters = Tensor::zeros(Shape{2}, DType::kInt64, stream);
  Tensor sum = squares.reshape(Shape{kernels::kExactSumIntegers});
  Tensor non_finite = counters.narrow(0, 1);
  Tensor num_refused = counters.narrow(1, 2);
  add_gradient_squares(buffer, sum, non_finite, num_refused, stream);
  replicas.all_reduce(squares, parallel::ReduceOp::kSum, stream).wait();
  kernels::update_scale(squares, counters, 0.5, scale, stream);
  return kernels::exact_sum_values(to_host<std::int64_t>(squares, stream))[0];
}

Result train(parallel::Communicator& replicas, Stream& stream) {
  std::deque<parallel::Parameter> parameters;
  std::vector<parallel::Parameter*> pointers;
  for (const std::int64_t length : kLengths) {
    parameters.push_back(
        parallel::whole_parameter(concat("p", parameters.size()), Shape{length}, replicas));
    pointers.push_back(&parameters.back());
  }
  parallel::ParameterFormat format;
  format.value_dtype = DType::kBFloat16;
  format.gradients.dtype = DType::kInt64;
  format.gradients.tokens_per_step = kNumTokens;
  parallel::ParameterBuffer buffer(pointers, format, stream);
  AdamWHyperparameters hyperparameters;
  hyperparameters.master_weights = true;
  hyperparameters.parameter_dtype = DType::kBFloat16;
  AdamW optimizer(buffer, hyperparameters, stream);
  optimizer.values_drawn(stream);
  Result result;
  for (int step = 0; step < kNumSteps; ++step) {
    buffer.begin_gradients(stream);
    std::uint64_t first = 0;
    for (parallel::Parameter& parameter : parameters) {
      add_contributions(parameter, first, step, stream);
      first += static_cast<std::uint64_t>(parameter.shape.numel());
    }
    buffer.reduce_gradients(stream);
    Tensor scale = Tensor::empty(Shape{1}, DType::kFloat32, stream);
    result.squares.push_back(set_scale(buffer, replicas, scale, stream));
    optimizer.step(1e-2, scale, stream);
    optimizer.finish_step(true);
    buffer.gather_values(stream);
  }
  for (const parallel::Parameter& parameter : parameters) {
    const auto values = to_host<BFloat16>(parameter.value(), stream);
    result.values.insert(result.values.end(), values.begin(), values.end());
  }
  return result;
}

Result train_on(int num_replicas) {
  std::vector<Result> results(static_cast<std::size_t>(num_replicas));
  test::run_ranks(num_replicas, [&](parallel::Communicator& replicas, Stream&) {
    Stream stream(kDevice, 1, SumOrder::kFixed);
    results[static_cast<std::size_t>(replicas.rank())] = train(replicas, stream);
  });
  for (const Result& result : results) {
    CHECK(result == results[0]);
  }
  return results[0];
}

}  // namespace

TEST_CASE("Updates from integer gradients on a device have the same bits on any replicas") {
  const Result alone = train_on(1);
  CHECK(train_on(2) == alone);
  CHECK(train_on(3) == alone);
  // Every element has moved, by less than the steps' learning rates together.
  for (const BFloat16 value : alone.values) {
    const float moved = std::abs(static_cast<float>(value));
    CHECK((moved > 0.0F && moved < 0.04F));
  }
  CHECK(alone.squares[0] > 0.25);  // and what was added was scaled down
}

}  // namespace fathom::optim
