#include "kernels/cross_entropy.h"

#include "kernels/elementwise.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The four steps of one part of the classes, as the second of two tensor ranks runs them.
struct Steps {
  Tensor largest, row_sum, target_logit, loss, gradient;
};

constexpr std::int64_t kFirstClass = 5;

Steps run_steps(const Tensor& logits, const Tensor& targets, const Tensor& weights,
                Stream& stream) {
  const Shape per_token{targets.size(0)};
  const auto empty = [&] { return Tensor::empty(per_token, DType::kFloat32, stream); };
  Steps steps{empty(), empty(), empty(), empty(), logits};
  cross_entropy_row_max(logits, steps.largest, stream);
  cross_entropy_exp_sum(steps.gradient, {targets, kFirstClass, 1}, steps.largest, steps.row_sum,
                        steps.target_logit, stream);
  cross_entropy_loss(steps.row_sum, steps.target_logit, weights, steps.loss, stream);
  cross_entropy_backward(steps.gradient, {targets, weights, steps.row_sum}, kFirstClass, stream);
  return steps;
}

void check_steps(const Tensor& logits, DType dtype, Devices& devices) {
  const std::int64_t num_tokens = logits.size(0);
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    // One before the classes of this part, one beyond, those between.
    ids.push_back(static_cast<std::int32_t>(kFirstClass - 1 + token * (logits.size(1) + 1) / 3));
    weights.push_back(0.25F * static_cast<float>(token + 1));
  }
  const Tensor targets = tensor_of(ids, Shape{num_tokens}, devices.cpu);
  const Tensor weight = tensor_of(weights, Shape{num_tokens}, devices.cpu);
  const Tensor there = devices.to_cuda(logits, dtype);
  const Steps found =
      run_steps(there, devices.to_cuda(targets), devices.to_cuda(weight), devices.cuda);
  const Steps want = run_steps(logits, targets, weight, devices.cpu);
  CHECK(bytes_of(devices.to_cpu(found.largest)) == bytes_of(want.largest));
  CHECK(bytes_of(devices.to_cpu(found.target_logit)) == bytes_of(want.target_logit));
  CHECK(largest_error(found.row_sum, want.row_sum, devices) < 2e-6);
  CHECK(largest_error(found.loss, want.loss, devices) < 2e-6);
  // Two roundings to bfloat16: of the power and of the gradient.
  CHECK(largest_error(found.gradient, want.gradient, devices) < 2 * tolerance(dtype));
}

}  // namespace

TEST_CASE("The steps of the cross-entropy on CUDA are those of the CPU") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  for (const std::int64_t num_tokens : {0, 1, 4}) {
    for (const std::int64_t num_classes : {1, 43, 512, 4104, 5003}) {
      INFO(num_tokens << " tokens, " << num_classes << " classes");
      Tensor logits = random_tensor(Shape{num_tokens, num_classes}, "logits", devices.cpu);
      scale(logits, 8.0F, devices.cpu);
      check_steps(devices.rounded(logits, dtype), dtype, devices);
    }
  }
}

TEST_CASE("The cross-entropy on CUDA takes logits of any size, padding, NaN and weight 0") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor logits = tensor_of<float>({1000,  1000,      -1000, 1004,        //
                                          -3008, -3024,     -2992, -kInfinity,  //
                                          nan,   1,         2,     3,           // of weight 0
                                          1,     2,         nan,   3,           //
                                          1,     kInfinity, 2,     3},
                                         Shape{5, 4}, devices.cpu);
  const Tensor targets = tensor_of<std::int32_t>({5, 6, -100, 8, 5}, Shape{5}, devices.cpu);
  const Tensor weights = tensor_of<float>({1, 1, 0, 1, 1}, Shape{5}, devices.cpu);
  const Steps found = run_steps(devices.to_cuda(logits, dtype), devices.to_cuda(targets),
                                devices.to_cuda(weights), devices.cuda);
  const std::vector<float> loss = vector_of(devices.to_cpu(found.loss));
  CHECK(loss[0] == Approx(std::log(2.0 + std::exp(4.0))).epsilon(1e-6));
  CHECK(loss[1] == Approx(32.0 + std::log(1.0 + std::exp(-16.0) + std::exp(-32.0))));
  CHECK(loss[2] == 0.0F);
  CHECK(std::isnan(loss[3]));
  CHECK(std::isnan(loss[4]));
  const std::vector<float> gradient = vector_of(devices.to_cpu(found.gradient));
  CHECK(gradient[2] == 0.0F);
  CHECK(gradient[5] == -1.0F);
  CHECK(gradient[7] == 0.0F);  // a padding class
  for (std::size_t i = 8; i < 12; ++i) {
    CHECK(gradient[i] == 0.0F);
    CHECK(std::isnan(gradient[i + 4]));
  }
}

}  // namespace fathom::kernels
