#include "kernels/cross_entropy.h"

#include <algorithm>

#include "kernels/elementwise.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Steps {
  Tensor largest, sums, loss;
  std::vector<Tensor> gradients;  // of each part
};

constexpr std::int64_t kFirstClass = 5;  // those before it are of a part that is left out

// The four steps over classes cut into parts, as tensor ranks would do them.
Steps run_steps(const std::vector<Tensor>& parts, const Tensor& targets, const Tensor& weights,
                Stream& stream) {
  const std::int64_t num_tokens = targets.size(0);
  const auto empty = [&](const Shape& shape) {
    return Tensor::empty(shape, DType::kFloat32, stream);
  };
  Steps steps{empty({num_tokens}), empty({2, num_tokens}), empty({num_tokens}), parts};
  fill(steps.largest, -kInfinity, stream);
  fill(steps.sums, 0.0F, stream);
  std::vector<Tensor> sums;
  for (const Tensor& part : parts) {
    Tensor largest = empty({num_tokens});
    sums.push_back(empty({2, num_tokens}));
    cross_entropy_row_max(part, largest, sums.back(), stream);
    maximum_in_place(steps.largest, largest, stream);
  }
  std::int64_t first_class = kFirstClass;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    cross_entropy_exp_sum(steps.gradients[i], {targets, first_class, 1}, steps.largest, sums[i],
                          stream);
    add_in_place(steps.sums, sums[i], stream);
    first_class += parts[i].size(1);
  }
  cross_entropy_loss(steps.sums, weights, steps.loss, stream);
  first_class = kFirstClass;
  for (Tensor& part : steps.gradients) {
    cross_entropy_backward(part, {targets, weights, steps.largest, steps.sums}, first_class,
                           stream);
    first_class += part.size(1);
  }
  return steps;
}

Steps run_there(const std::vector<Tensor>& parts, const Tensor& targets, const Tensor& weights,
                DType dtype, Devices& devices) {
  std::vector<Tensor> there;
  for (const Tensor& part : parts) {
    there.push_back(devices.to_cuda(part, dtype));
  }
  return run_steps(there, devices.to_cuda(targets), devices.to_cuda(weights), devices.cuda);
}

void check_steps(const std::vector<Tensor>& parts, DType dtype, Devices& devices) {
  const std::int64_t num_tokens = parts[0].size(0);
  std::int64_t num_classes = 0;
  for (const Tensor& part : parts) {
    num_classes += part.size(1);
  }
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    // One before the classes of these parts, one beyond, those between.
    ids.push_back(static_cast<std::int32_t>(kFirstClass - 1 + token * (num_classes + 1) / 3));
    weights.push_back(0.25F * static_cast<float>(token + 1));
  }
  const Tensor targets = tensor_of(ids, Shape{num_tokens}, devices.cpu);
  const Tensor weight = tensor_of(weights, Shape{num_tokens}, devices.cpu);
  const Steps found = run_there(parts, targets, weight, dtype, devices);
  const Steps want = run_steps(parts, targets, weight, devices.cpu);
  CHECK(bytes_of(devices.to_cpu(found.largest)) == bytes_of(want.largest));
  CHECK(bytes_of(devices.to_cpu(found.sums.narrow(1, 2))) == bytes_of(want.sums.narrow(1, 2)));
  CHECK(largest_error(found.sums, want.sums, devices) < 2e-6);
  CHECK(largest_error(found.loss, want.loss, devices) < 2e-6);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    CHECK(largest_error(found.gradients[i], want.gradients[i], devices) < tolerance(dtype));
  }
}

}  // namespace

TEST_CASE("The steps of the cross-entropy on CUDA are those of the CPU, cut or whole") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const auto part = [&](std::int64_t num_tokens, std::int64_t num_classes, float factor) {
    Tensor logits = random_tensor(Shape{num_tokens, num_classes}, "logits", devices.cpu);
    scale(logits, factor, devices.cpu);
    return devices.rounded(logits, dtype);
  };
  for (const std::int64_t num_tokens : {0, 1, 4}) {
    for (const std::int64_t num_classes : {1, 43, 512, 4104, 5003, 33000}) {
      INFO(num_tokens << " tokens, " << num_classes << " classes");
      check_steps({part(num_tokens, num_classes, 8)}, dtype, devices);
    }
    check_steps({part(num_tokens, 40, 2), part(num_tokens, 17, 30), part(num_tokens, 512, 8)},
                dtype, devices);
  }
}

TEST_CASE("A maximum that comes early or late on CUDA scales the sum alike") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  constexpr std::int64_t kClasses = 20000;
  std::vector<float> rows;
  for (const std::int64_t largest : {0, 1, 4095, 4096, 19999}) {
    for (std::int64_t c = 0; c < kClasses; ++c) {
      rows.push_back(c == largest ? 64.0F : 56.0F);
    }
  }
  const Tensor logits = tensor_of(rows, Shape{5, kClasses}, devices.cpu);
  const Tensor targets =
      tensor_of(std::vector<std::int32_t>(5, kFirstClass + 7), Shape{5}, devices.cpu);
  const Tensor weights = filled(Shape{5}, 1.0F, devices.cpu);
  const Steps found = run_there({logits}, targets, weights, dtype, devices);
  const double want = 8.0 + std::log(1.0 + (kClasses - 1) * std::exp(-8.0));
  for (const float loss : vector_of(devices.to_cpu(found.loss))) {
    CHECK(loss == Approx(want).epsilon(1e-6));
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
  // What other parts there may be: padding alone, for which nothing may change.
  const Tensor padding = filled(Shape{5, 9}, -kInfinity, devices.cpu);
  const std::vector<Tensor> parts =
      GENERATE_COPY(std::vector<Tensor>{logits}, std::vector<Tensor>{logits, padding});
  const Steps found = run_there(parts, targets, weights, dtype, devices);
  const std::vector<float> loss = vector_of(devices.to_cpu(found.loss));
  CHECK(loss[0] == Approx(std::log(2.0 + std::exp(4.0))).epsilon(1e-6));
  CHECK(loss[1] == Approx(32.0 + std::log(1.0 + std::exp(-16.0) + std::exp(-32.0))));
  CHECK(loss[2] == 0.0F);
  CHECK(std::isnan(loss[3]));
  CHECK(std::isnan(loss[4]));
  const std::vector<float> gradient = vector_of(devices.to_cpu(found.gradients[0]));
  CHECK(gradient[2] == 0.0F);
  CHECK(gradient[5] == -1.0F);
  CHECK(gradient[7] == 0.0F);  // a padding class
  for (std::size_t i = 8; i < 12; ++i) {
    CHECK(gradient[i] == 0.0F);
    CHECK(std::isnan(gradient[i + 4]));
    CHECK(std::isnan(gradient[i + 8]));
  }
  if (parts.size() == 2) {
    const std::vector<float> of_padding = vector_of(devices.to_cpu(found.gradients[1]));
    CHECK(std::count(of_padding.begin(), of_padding.begin() + 27, 0.0F) == 27);
  }
}

}  // namespace fathom::kernels
