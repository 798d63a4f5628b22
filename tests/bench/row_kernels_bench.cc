// The kernels around the products, at the shapes of configs/models/small.textproto (8 sequences of
// 256 tokens, 16 experts, top 4) and its 7.5 million parameters: best time, time an element, and
// bytes of operands a second.
//   row_kernels_bench [threads]
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "core/rng.h"
#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/adamw.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/exact_sums.h"
#include "kernels/gradient_norm.h"
#include "kernels/permute.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/router.h"
#include "kernels/swiglu.h"
#include "tests/bench/timing.h"

namespace fathom::kernels {
namespace {

constexpr std::int64_t kTokens = 2048;
constexpr std::int64_t kHidden = 256;
constexpr std::int64_t kExperts = 16;
constexpr std::int64_t kTopK = 4;
constexpr std::int64_t kSlots = kTokens * kTopK;
constexpr std::int64_t kClasses = 4096;
constexpr std::int64_t kParameters = 7'500'000;

class Bench {
 public:
  explicit Bench(int num_threads) : stream_({}, num_threads) {}
  Stream& stream() { return stream_; }

  Tensor random(const Shape& shape, float scale = 1.0F) {
    constexpr std::int64_t kPeriod = 8191;
    Tensor x = Tensor::empty(shape, DType::kFloat32, stream_);
    const RandomSource source(1, "bench");
    auto* values = x.mutable_data<float>();
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      values[i] =
          i < kPeriod ? scale * source.normal(static_cast<std::uint64_t>(i)) : values[i - kPeriod];
    }
    return x;
  }
  Tensor integers(const Shape& shape, const std::function<std::int64_t(std::int64_t)>& value) {
    Tensor x = Tensor::empty(shape, DType::kInt32, stream_);
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      x.mutable_data<std::int32_t>()[i] = static_cast<std::int32_t>(value(i));
    }
    return x;
  }
  void time(const char* name, std::int64_t elements, std::int64_t bytes,
            const std::function<void()>& body) {
    const double seconds = bench::best_seconds(stream_.num_threads() == 1, 0.2, body);
    std::printf("%-26s %9.1f us %8.3f ns an element %7.1f GB/s\n", name, 1e6 * seconds,
                1e9 * seconds / static_cast<double>(elements),
                1e-9 * static_cast<double>(bytes) / seconds);
  }

 private:
  Stream stream_;
};

void time_rows(Bench& bench) {
  Stream& stream = bench.stream();
  const Shape shape{kTokens, kHidden};
  const std::int64_t n = shape.numel();
  const Tensor x = bench.random(shape);
  const Tensor dy = bench.random(shape);
  const Tensor gain = bench.random(Shape{kHidden});
  Tensor y = bench.random(shape);
  Tensor inv_rms = bench.random(Shape{kTokens});
  GradientSum gain_grad;
  gain_grad.sum = bench.random(Shape{kHidden});
  bench.time("add", n, 12 * n, [&] { add(x, dy, y, stream); });
  bench.time("rms_norm_forward", n, 8 * n,
             [&] { rms_norm_forward(x, gain, 1e-6F, y, inv_rms, stream); });
  const RmsNormInputs norm{x, gain, inv_rms};
  bench.time("rms_norm_backward", n, 12 * n,
             [&] { rms_norm_backward(dy, norm, y, gain_grad, stream); });
  Tensor h = bench.random(shape);
  bench.time("add_rms_norm_forward", n, 16 * n,
             [&] { add_rms_norm_forward(x, h, gain, 1e-6F, y, inv_rms, stream); });
  bench.time("add_rms_norm_backward", n, 16 * n,
             [&] { add_rms_norm_backward(dy, norm, h, y, gain_grad, stream); });
  const Tensor gate_up = bench.random(Shape{kTokens, 2 * kHidden});
  Tensor d_gate_up = bench.random(gate_up.shape());
  bench.time("swiglu_forward", n, 12 * n, [&] { swiglu_forward(gate_up, y, stream); });
  bench.time("swiglu_backward", n, 20 * n,
             [&] { swiglu_backward(dy, gate_up, d_gate_up, stream); });
  const Tensor table = rope_table(rope_frequencies(16, 10000.0, {}), 256, stream);
  const Tensor positions = bench.integers(Shape{kTokens}, [](auto i) { return i % 256; });
  bench.time("rope, 4 heads of 16", kTokens * 64, 8 * kTokens * 64, [&] {
    rope({4, 48, 32, 16}, RopeDirection::kForward, table, positions, x, y, stream);
  });
  Tensor embedding = bench.random(Shape{kClasses, kHidden});
  const Tensor tokens = bench.integers(Shape{kTokens}, [](auto i) { return i * 7919 % kClasses; });
  bench.time("embedding_forward", n, 8 * n,
             [&] { embedding_forward(tokens, embedding, 0, y, stream); });
  GradientSum table_grad;
  table_grad.sum = embedding;
  bench.time("embedding_backward", n, 12 * n,
             [&] { embedding_backward(tokens, dy, 0, table_grad, stream); });
}

void time_cross_entropy(Bench& bench) {
  Stream& stream = bench.stream();
  const std::int64_t n = kTokens * kClasses;
  const Shape per_token{kTokens};
  Tensor logits = bench.random(Shape{kTokens, kClasses});
  const Tensor targets = bench.integers(per_token, [](auto i) { return i; });
  Tensor row_max = bench.random(per_token);
  Tensor sums = bench.random(Shape{2, kTokens});
  Tensor weights = bench.random(per_token);
  fill(weights, 1e-3F, stream);
  bench.time("cross_entropy_row_max", n, 4 * n,
             [&] { cross_entropy_row_max(logits, row_max, sums, stream); });
  bench.time("cross_entropy_exp_sum", n, 8 * n,
             [&] { cross_entropy_exp_sum(logits, {targets, 0, 1}, row_max, sums, stream); });
  fill(sums, 1.0F, stream);  // so that repeating it does not shrink the numbers away
  bench.time("cross_entropy_backward", n, 8 * n,
             [&] { cross_entropy_backward(logits, {targets, weights, row_max, sums}, 0, stream); });
}

void time_experts(Bench& bench) {
  Stream& stream = bench.stream();
  RouterOptions options;
  options.num_experts = static_cast<int>(kExperts);
  options.top_k = static_cast<int>(kTopK);
  const Tensor logits = bench.random(Shape{kTokens, kExperts});
  const Tensor bias = bench.random(Shape{kExperts}, 0.01F);
  Tensor scores = bench.random(logits.shape());
  Tensor d_logits = bench.random(logits.shape());
  Tensor gates = bench.random(Shape{kTokens, kTopK});
  Tensor d_gates = bench.random(gates.shape());
  Tensor ids = bench.integers(gates.shape(), [](auto) { return 0; });
  bench.time("router_forward (a token)", kTokens, 8 * kTokens * kExperts,
             [&] { router_forward(options, logits, bias, scores, ids, gates, stream); });
  bench.time("router_backward (a token)", kTokens, 12 * kTokens * kExperts,
             [&] { router_backward(options, scores, ids, d_gates, logits, d_logits, stream); });
  const Tensor sequences = bench.integers(Shape{kTokens}, [](auto i) { return i / 256; });
  Tensor sequence_counts = Tensor::zeros(Shape{8, kExperts}, DType::kInt64, stream);
  Tensor score_sums = Tensor::zeros(Shape{8, kExperts}, DType::kInt64, stream);
  bench.time("balance_statistics (token)", kTokens, 4 * kTokens * kExperts, [&] {
    balance_statistics(options, scores, sequences, sequence_counts, score_sums, stream);
  });
  Tensor counts = Tensor::zeros(Shape{kExperts}, DType::kInt64, stream);
  Tensor slot_of_row = bench.integers(Shape{kSlots}, [](auto) { return 0; });
  Tensor row_of_slot = bench.integers(Shape{kSlots}, [](auto) { return 0; });
  bench.time("sort_slots (a slot)", kSlots, 12 * kSlots,
             [&] { sort_slots(ids, counts, slot_of_row, row_of_slot, stream); });

  const std::int64_t n = kSlots * kHidden;
  Tensor x = bench.random(Shape{kTokens, kHidden});
  Tensor rows = bench.random(Shape{kSlots, kHidden});
  Tensor d_rows = bench.random(rows.shape());
  bench.time("permute_forward", n, 5 * n,
             [&] { permute_forward(x, slot_of_row, options.top_k, rows, stream); });
  bench.time("combine_backward", n, 9 * n,
             [&] { combine_backward(x, rows, row_of_slot, gates, d_rows, d_gates, stream); });
  bench.time("permute_backward", n, 5 * n,
             [&] { permute_backward(d_rows, row_of_slot, x, false, stream); });
  fill(d_gates, 0.0F, stream);  // so that repeating it does not grow the sums
  bench.time("combine_forward", n, 6 * n,
             [&] { combine_forward(rows, row_of_slot, d_gates, x, stream); });
}

void time_optimizer(Bench& bench) {
  Stream& stream = bench.stream();
  const Shape shape{kParameters};
  const Tensor gradient = bench.random(shape, 1e-3F);
  Tensor weight = bench.random(shape);
  Tensor exp_avg = bench.random(shape, 1e-3F);
  Tensor exp_avg_sq = bench.random(shape);
  fill(exp_avg_sq, 1e-6F, stream);
  AdamWOptions options;
  options.learning_rate = 1e-4;
  options.weight_decay = 0.1;
  bench.time("adamw_step", kParameters, 28 * kParameters,
             [&] { adamw_step(options, gradient, weight, weight, exp_avg, exp_avg_sq, stream); });
  Tensor sum = Tensor::zeros(Shape{kExactSumIntegers}, DType::kInt64, stream);
  Tensor num_non_finite = Tensor::zeros(Shape{1}, DType::kInt64, stream);
  bench.time("sum_of_squares", kParameters, 4 * kParameters,
             [&] { sum_of_squares(gradient, sum, num_non_finite, stream); });
}

}  // namespace
}  // namespace fathom::kernels

int main(int argc, char** argv) {
  fathom::kernels::Bench bench(argc > 1 ? std::atoi(argv[1]) : 1);
  fathom::kernels::time_rows(bench);
  fathom::kernels::time_cross_entropy(bench);
  fathom::kernels::time_experts(bench);
  fathom::kernels::time_optimizer(bench);
  return 0;
}
