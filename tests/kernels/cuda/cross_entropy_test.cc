#include "kernels/cross_entropy.h"

#include <algorithm>
#include <functional>

#include "kernels/elementwise.h"
#include "kernels/sample.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Steps {
  Tensor largest, sums, loss;
  std::vector<Tensor> gradients;  // of each part
};

constexpr std::int64_t kFirstClass = 5;  // those before it are of a part that is left out

// The four steps over classes cut into parts of as many chunks each, as tensor ranks would do them:
// their sums are added in a binary tree.
Steps run_steps(const std::vector<Tensor>& parts, int chunks_of_part, const Tensor& targets,
                const Tensor& weights, Stream& stream) {
  const std::int64_t num_tokens = targets.size(0);
  const auto empty = [&](const Shape& shape) {
    return Tensor::empty(shape, DType::kFloat32, stream);
  };
  Steps steps{empty({num_tokens}), Tensor(), empty({num_tokens}), parts};
  fill(steps.largest, -kInfinity, stream);
  std::vector<Tensor> sums;
  for (const Tensor& part : parts) {
    Tensor largest = empty({num_tokens});
    sums.push_back(empty({2, num_tokens}));
    cross_entropy_row_max(part, largest, sums.back(), stream);
    take_maximum(steps.largest, largest, stream);
  }
  std::int64_t first_class = kFirstClass;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    cross_entropy_exp_sum(steps.gradients[i], {targets, first_class, chunks_of_part}, steps.largest,
                          sums[i], stream);
    first_class += parts[i].size(1);
  }
  for (std::size_t step = 1; step < parts.size(); step *= 2) {
    for (std::size_t i = 0; i + step < parts.size(); i += 2 * step) {
      add_in_place(sums[i], sums[i + step], stream);
    }
  }
  steps.sums = sums[0];
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
  return run_steps(there, 1, devices.to_cuda(targets), devices.to_cuda(weights), devices.cuda);
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
  const Steps want = run_steps(parts, 1, targets, weight, devices.cpu);
  CHECK(bytes_of(devices.to_cpu(found.largest)) == bytes_of(want.largest));
  CHECK(bytes_of(devices.to_cpu(found.sums.narrow(1, 2))) == bytes_of(want.sums.narrow(1, 2)));
  CHECK(largest_error(found.sums, want.sums, devices) < 2e-6);
  CHECK(largest_error(found.loss, want.loss, devices) < 2e-6);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    CHECK(largest_error(found.gradients[i], want.gradients[i], devices) < tolerance(dtype));
  }
}

Devices devices_of(SumOrder order) {
  return order == SumOrder::kFixed ? devices_of_fixed_order() : Devices();
}

// The parts that ranks of a tensor group have of the classes, on the GPU.
std::vector<Tensor> parts_of(const Tensor& logits, std::int64_t num_parts, DType dtype,
                             Devices& devices) {
  const std::int64_t size = logits.size(1) / num_parts;
  std::vector<Tensor> parts;
  for (std::int64_t part = 0; part < num_parts; ++part) {
    Tensor here = Tensor::empty(Shape{logits.size(0), size}, DType::kFloat32, devices.cpu);
    copy_columns(logits, static_cast<int>(part * size), here, 0, static_cast<int>(size),
                 devices.cpu);
    parts.push_back(devices.to_cuda(here, dtype));
  }
  return parts;
}

struct Row {
  std::vector<float> losses;
  std::vector<float> gradient;  // token after token
};

// Losses and gradients on the GPU of logits that lie in parts of so many chunks.
Row results_of(const std::vector<Tensor>& parts, int chunks_of_part, const Tensor& targets,
               Devices& devices) {
  const Tensor weights = devices.to_cuda(filled(targets.shape(), 0.5F, devices.cpu));
  const Steps steps =
      run_steps(parts, chunks_of_part, devices.to_cuda(targets), weights, devices.cuda);
  Row row{vector_of(devices.to_cpu(steps.loss)), {}};
  std::vector<Tensor> gradients;
  for (const Tensor& part : steps.gradients) {
    gradients.push_back(devices.to_cpu(part));
  }
  for (std::int64_t token = 0; token < targets.size(0); ++token) {
    for (const Tensor& part : gradients) {
      const std::vector<float> numbers = vector_of(part.narrow(token, token + 1));
      row.gradient.insert(row.gradient.end(), numbers.begin(), numbers.end());
    }
  }
  return row;
}

constexpr int kChunks = 4;

// Logits of kChunks chunks of that size; a class of every chunk and the last are targets.
Tensor logits_of_chunks(std::int64_t num_tokens, std::int64_t chunk_size, DType dtype,
                        Devices& devices) {
  Tensor logits = random_tensor(Shape{num_tokens, kChunks * chunk_size}, "logits", devices.cpu);
  scale(logits, 6.0F, devices.cpu);
  return devices.rounded(logits, dtype);
}
Tensor targets_of_chunks(std::int64_t num_tokens, std::int64_t chunk_size, Devices& devices) {
  std::vector<std::int32_t> targets;
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    const std::int64_t at = token % kChunks * chunk_size + token % chunk_size;
    targets.push_back(static_cast<std::int32_t>(kFirstClass + at));
  }
  return tensor_of(targets, Shape{num_tokens}, devices.cpu);
}

}  // namespace

TEST_CASE("The steps of the cross-entropy on CUDA are those of the CPU, cut or whole") {
  Devices devices = devices_of(GENERATE(SumOrder::kFastest, SumOrder::kFixed));
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
  Devices devices = devices_of(GENERATE(SumOrder::kFastest, SumOrder::kFixed));
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
  Devices devices = devices_of(GENERATE(SumOrder::kFastest, SumOrder::kFixed));
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

TEST_CASE("In fixed order on CUDA a token's loss and gradient do not show how classes are cut") {
  Devices devices = devices_of_fixed_order();
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  // Chunks of units of 8 classes, of packs of 4, of neither; of less than a unit, and of several
  // units of a thread.
  const std::int64_t chunk_size = GENERATE(1, 6, 37, 520, 4100, 8200, 9001);
  constexpr std::int64_t kTokens = 5;
  INFO(kChunks << " chunks of " << chunk_size);
  const Tensor logits = logits_of_chunks(kTokens, chunk_size, dtype, devices);
  const Tensor targets = targets_of_chunks(kTokens, chunk_size, devices);
  const Row whole = results_of({devices.to_cuda(logits, dtype)}, kChunks, targets, devices);
  for (const int num_parts : {2, 4}) {
    const Row cut = results_of(parts_of(logits, num_parts, dtype, devices), kChunks / num_parts,
                               targets, devices);
    CHECK(cut.losses == whole.losses);
    CHECK(cut.gradient == whole.gradient);
  }
  const Row elsewhere =
      results_of({devices.to_cuda_misaligned(logits, dtype)}, kChunks, targets, devices);
  CHECK(elsewhere.losses == whole.losses);
  CHECK(elsewhere.gradient == whole.gradient);
  const Row alone = results_of({devices.to_cuda(logits.narrow(3, 4), dtype)}, kChunks,
                               targets.narrow(3, 4), devices);
  CHECK(alone.losses[0] == whole.losses[3]);
  const auto first = whole.gradient.begin() + 3 * logits.size(1);
  CHECK(alone.gradient == std::vector<float>(first, first + logits.size(1)));
}

TEST_CASE("In fixed order on CUDA a log-probability is minus the loss on any tensor ranks") {
  Devices devices = devices_of_fixed_order();
  const std::int64_t chunk_size = GENERATE(21, 520, 5000);
  constexpr std::int64_t kTokens = 9;
  const Tensor logits = logits_of_chunks(kTokens, chunk_size, DType::kFloat32, devices);
  const Tensor targets = targets_of_chunks(kTokens, chunk_size, devices);
  std::vector<std::int32_t> tokens;
  for (const std::int32_t target : targets.values<std::int32_t>()) {
    tokens.push_back(target - static_cast<std::int32_t>(kFirstClass));
  }
  Tensor used_up = devices.to_cuda(logits);
  Tensor logprobs = devices.empty(Shape{kTokens}, DType::kFloat32);
  token_logprobs(used_up, devices.to_cuda(tensor_of(tokens, Shape{kTokens}, devices.cpu)), kChunks,
                 logprobs, devices.cuda);
  std::vector<float> losses = vector_of(devices.to_cpu(logprobs));
  std::ranges::transform(losses, losses.begin(), std::negate());
  for (const int num_parts : {1, 2, 4}) {
    CHECK(results_of(parts_of(logits, num_parts, DType::kFloat32, devices), kChunks / num_parts,
                     targets, devices)
              .losses == losses);
  }
}

}  // namespace fathom::kernels
