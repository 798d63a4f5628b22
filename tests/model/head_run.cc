#include "tests/model/head_run.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "core/bfloat16.h"
#include "core/host_copy.h"
#include "core/rng.h"
#include "kernels/exact_sums.h"
#include "model/lm_head.h"
#include "tests/support/run_ranks.h"

namespace fathom::testing {
namespace {

using model::LmHead;

constexpr int kFractionBits = 40;

// A token that no loss counts.
bool is_masked(std::int64_t token) { return token % 5 == 2; }

std::int64_t target_of(std::int64_t token) { return (token * 7 + 3) % kHeadClasses; }

float mask_of(std::int64_t token) { return is_masked(token) ? 0.0F : 1.0F; }

float weight_of(std::int64_t token) {
  return mask_of(token) * 0.02F * static_cast<float>(1 + token % 3);
}

std::vector<float> normal_numbers(const char* purpose, std::int64_t count, float scale,
                                  DType dtype) {
  const RandomSource random(11, purpose);
  std::vector<float> numbers;
  for (std::int64_t i = 0; i < count; ++i) {
    const float number = scale * static_cast<float>(random.normal(static_cast<std::uint64_t>(i)));
    numbers.push_back(dtype == DType::kBFloat16 ? static_cast<float>(BFloat16(number)) : number);
  }
  return numbers;
}

std::vector<float> head_inputs(DType dtype) {
  return normal_numbers("inputs", kHeadTokens * kHeadHidden, 1.0F, dtype);
}

std::vector<float> head_weights(DType dtype) {
  return normal_numbers("weights", kHeadClasses * kHeadHidden, 0.3F, dtype);
}

Tensor device_tensor(std::span<const float> values, const Shape& shape, DType dtype,
                     Stream& stream) {
  Tensor tensor = Tensor::empty(shape, dtype, stream);
  if (dtype == DType::kBFloat16) {
    std::vector<BFloat16> halves;
    for (const float value : values) {
      halves.emplace_back(value);
    }
    from_host<BFloat16>(halves, tensor, stream);
  } else {
    from_host(values, tensor, stream);
  }
  return tensor;
}

std::vector<double> host_doubles(const Tensor& tensor, Stream& stream) {
  std::vector<double> numbers;
  if (tensor.dtype() == DType::kBFloat16) {
    for (const BFloat16 number : to_host<BFloat16>(tensor, stream)) {
      numbers.push_back(static_cast<float>(number));
    }
  } else {
    for (const float number : to_host<float>(tensor, stream)) {
      numbers.push_back(number);
    }
  }
  return numbers;
}

// dL/dloss of a token: its loss over the sum of all.
class LossOverSum final : public model::TokenLoss {
 public:
  void weigh(int, const Tensor& losses, Tensor& weights, Stream& stream) override {
    const std::vector<float> values = to_host<float>(losses, stream);
    double sum = 0.0;
    for (const float loss : values) {
      sum += loss;
    }
    std::vector<float> result;
    for (const float loss : values) {
      result.push_back(static_cast<float>(loss / sum));
    }
    from_host<float>(result, weights, stream);
    ++num_calls_;
  }
  int num_calls() const { return num_calls_; }

 private:
  int num_calls_ = 0;
};

model::ModelOptions head_options(const HeadRun& run) {
  model::ModelOptions options;
  options.vocab_size = kHeadClasses;
  options.hidden_size = kHeadHidden;
  options.head_chunk_tokens = run.chunk_tokens;
  options.numerics.activation_dtype = run.activations;
  if (run.is_exact) {
    options.numerics.tensor_chunks = 4;
    options.numerics.gradients.unit_tokens = 4;
  }
  return options;
}

// Gives the head this rank's rows of the weights and a gradient of zeros.
void set_weight(LmHead& head, const HeadRun& run, Stream& stream) {
  parallel::Parameter& weight = head.weight();
  const std::vector<float> all = head_weights(run.activations);
  const std::size_t first =
      static_cast<std::size_t>(weight.pieces[0].row_begin) * std::size_t{kHeadHidden};
  weight.value() =
      device_tensor(std::span(all).subspan(first, static_cast<std::size_t>(weight.shape.numel())),
                    weight.shape, run.activations, stream);
  const DType sums = run.is_exact ? DType::kInt64 : DType::kFloat32;
  weight.grad.sum = Tensor::zeros(weight.shape, sums, stream);
  if (run.is_exact) {
    weight.grad.num_refused = Tensor::zeros(Shape{1}, DType::kInt64, stream);
    weight.grad.fraction_bits = kFractionBits;
    weight.grad.limit = kernels::contribution_limit(kFractionBits, kHeadTokens);
    weight.grad.unit_rows = 4;
  }
}

model::MicroBatch head_batch(Stream& stream) {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
  std::vector<float> masks;
  for (std::int64_t token = 0; token < kHeadTokens; ++token) {
    ids.push_back(static_cast<std::int32_t>(target_of(token)));
    weights.push_back(weight_of(token));
    masks.push_back(mask_of(token));
  }
  model::MicroBatch batch;
  batch.num_sequences = 1;
  batch.sequence_length = kHeadTokens;
  const Shape per_token{kHeadTokens};
  Tensor targets = Tensor::empty(per_token, DType::kInt32, stream);
  from_host<std::int32_t>(ids, targets, stream);
  batch.targets.push_back({targets, device_tensor(weights, per_token, DType::kFloat32, stream),
                           device_tensor(masks, per_token, DType::kFloat32, stream)});
  return batch;
}

// What one rank has of the result.
HeadResult run_rank(const HeadRun& run, parallel::Communicator& world, Stream& stream) {
  const parallel::Mesh mesh(world, {.tensor = run.tensor_ranks});
  LmHead head(head_options(run), mesh);
  set_weight(head, run, stream);
  const model::MicroBatch batch = head_batch(stream);
  model::LossSums losses(1);
  LossOverSum weigh;
  model::Context context{stream, mesh, batch, {}};
  context.pass = run.pass;
  context.losses = &losses;
  context.logit_scale = kHeadLogitScale;
  context.token_loss = run.weighs_losses ? &weigh : nullptr;
  const Tensor all = device_tensor(head_inputs(run.activations), Shape{kHeadTokens, kHeadHidden},
                                   run.activations, stream);
  const Tensor dx = head.forward_backward(context.local(all), batch.targets[0], 0, context);

  HeadResult result;
  result.loss = kernels::exact_sum_values(to_host<std::int64_t>(losses.totals(stream), stream))[0];
  result.num_weighed = weigh.num_calls();
  if (dx.defined()) {
    result.dx = host_doubles(dx, stream);
  }
  const Tensor& sum = head.weight().grad.sum;
  if (!run.is_exact) {
    result.weight_gradient = host_doubles(sum, stream);
    return result;
  }
  result.exact_sums = to_host<std::int64_t>(sum, stream);
  for (const std::int64_t fixed : result.exact_sums) {
    result.weight_gradient.push_back(std::ldexp(static_cast<double>(fixed), -kFractionBits));
  }
  return result;
}

template <class T>
void append(std::vector<T>& to, const std::vector<T>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

// softmax of the scaled logits, [tokens, classes].
std::vector<double> softmax(const std::vector<float>& x, const std::vector<float>& w) {
  std::vector<double> probabilities;
  for (std::int64_t token = 0; token < kHeadTokens; ++token) {
    double sum = 0.0;
    for (std::int64_t c = 0; c < kHeadClasses; ++c) {
      double logit = 0.0;
      for (std::int64_t i = 0; i < kHeadHidden; ++i) {
        logit += static_cast<double>(x[static_cast<std::size_t>(token * kHeadHidden + i)]) *
                 static_cast<double>(w[static_cast<std::size_t>(c * kHeadHidden + i)]);
      }
      probabilities.push_back(std::exp(static_cast<double>(kHeadLogitScale) * logit));
      sum += probabilities.back();
    }
    for (auto p = probabilities.end() - kHeadClasses; p != probabilities.end(); ++p) {
      *p /= sum;
    }
  }
  return probabilities;
}

}  // namespace

HeadResult run_head(const HeadRun& run) {
  std::vector<HeadResult> parts(static_cast<std::size_t>(run.tensor_ranks));
  test::run_ranks(
      run.tensor_ranks,
      [&](parallel::Communicator& world, Stream& stream) {
        parts[static_cast<std::size_t>(world.rank())] = run_rank(run, world, stream);
      },
      {}, run.device);
  HeadResult whole;
  for (const HeadResult& part : parts) {
    whole.loss += part.loss;
    whole.num_weighed += part.num_weighed;
    append(whole.dx, part.dx);
    append(whole.weight_gradient, part.weight_gradient);
    append(whole.exact_sums, part.exact_sums);
  }
  return whole;
}

HeadResult head_reference(DType activations, bool weighs_losses) {
  const std::vector<float> x = head_inputs(activations);
  const std::vector<float> w = head_weights(activations);
  const std::vector<double> probabilities = softmax(x, w);
  std::vector<double> losses;
  HeadResult result;
  for (std::int64_t token = 0; token < kHeadTokens; ++token) {
    const double p =
        probabilities[static_cast<std::size_t>(token * kHeadClasses + target_of(token))];
    losses.push_back(is_masked(token) ? 0.0 : -std::log(p));
    result.loss += losses.back();
  }
  result.dx.resize(x.size());
  result.weight_gradient.resize(w.size());
  for (std::int64_t token = 0; token < kHeadTokens; ++token) {
    const double weight = weighs_losses ? losses[static_cast<std::size_t>(token)] / result.loss
                                        : static_cast<double>(weight_of(token));
    for (std::int64_t c = 0; c < kHeadClasses; ++c) {
      const double p = probabilities[static_cast<std::size_t>(token * kHeadClasses + c)];
      const double d_logit =
          static_cast<double>(kHeadLogitScale) * weight * (p - (target_of(token) == c ? 1.0 : 0.0));
      for (std::int64_t i = 0; i < kHeadHidden; ++i) {
        const auto of_x = static_cast<std::size_t>(token * kHeadHidden + i);
        const auto of_w = static_cast<std::size_t>(c * kHeadHidden + i);
        result.dx[of_x] += d_logit * static_cast<double>(w[of_w]);
        result.weight_gradient[of_w] += d_logit * static_cast<double>(x[of_x]);
      }
    }
  }
  return result;
}

double relative_gap(const std::vector<double>& found, const std::vector<double>& want) {
  if (found.size() != want.size()) {
    return std::numeric_limits<double>::infinity();
  }
  double largest = 0.0;
  double worst = 0.0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    largest = std::max(largest, std::abs(want[i]));
    // A NaN is the worst, and stays it.
    const double gap = std::abs(found[i] - want[i]);
    worst = gap <= worst ? worst : gap;
  }
  return worst / largest;
}

}  // namespace fathom::testing
