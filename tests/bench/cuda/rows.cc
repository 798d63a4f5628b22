#include "core/error.h"
#include "core/host_copy.h"
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
#include "tests/bench/cuda/bench.h"

namespace fathom::bench {
namespace {

using namespace kernels;

// No arithmetic to speak of: these are bound by what they read and write.
template <class... Tensors>
Work traffic(const Tensors&... tensors) {
  return {0, (0.0 + ... + static_cast<double>(tensors.size_bytes()))};
}

std::string words(const Tensor& tensor) {
  std::string text;
  for (int i = 0; i < tensor.shape().rank(); ++i) {
    text += concat(i > 0 ? "x" : "", tensor.size(i));
  }
  return text;
}

void time_norm(Bench& bench, const Sizes& sizes) {
  Stream& stream = bench.stream();
  const Tensor x = bench.bfloat16({sizes.tokens, sizes.hidden});
  const Tensor dy = bench.bfloat16(x.shape());
  const Tensor gain = bench.bfloat16({sizes.hidden});
  Tensor y = bench.bfloat16(x.shape());
  Tensor inv_rms = bench.float32({sizes.tokens});
  GradientSum gain_grad = bench.gradient({sizes.hidden}, sizes.unit_tokens);
  bench.time("add", words(x), traffic(x, dy, y), [&] { add(x, dy, y, stream); });
  bench.time("rms_norm forward", words(x), traffic(x, y),
             [&] { rms_norm_forward(x, gain, 1e-6F, y, inv_rms, stream); });
  const RmsNormInputs norm{x, gain, inv_rms};
  bench.time("rms_norm backward", words(x), traffic(x, dy, y),
             [&] { rms_norm_backward(dy, norm, y, gain_grad, stream); });
  Tensor h = bench.bfloat16(x.shape());
  bench.time("add_rms_norm forward", words(x), traffic(x, h, h, y),
             [&] { add_rms_norm_forward(x, h, gain, 1e-6F, y, inv_rms, stream); });
  bench.time("add_rms_norm backward", words(x), traffic(x, dy, h, y),
             [&] { add_rms_norm_backward(dy, norm, h, y, gain_grad, stream); });
}

void time_swiglu(Bench& bench, const Sizes& sizes) {
  Stream& stream = bench.stream();
  const Tensor gate_up = bench.bfloat16({sizes.slots(), 2 * sizes.expert_hidden});
  Tensor y = bench.bfloat16({sizes.slots(), sizes.expert_hidden});
  Tensor d_gate_up = bench.bfloat16(gate_up.shape());
  bench.time("swiglu forward", words(y), traffic(gate_up, y),
             [&] { swiglu_forward(gate_up, y, stream); });
  bench.time("swiglu backward", words(y), traffic(gate_up, y, d_gate_up),
             [&] { swiglu_backward(y, gate_up, d_gate_up, stream); });
}

void time_rope(Bench& bench, const Sizes& sizes) {
  Stream& stream = bench.stream();
  Stream host;
  const int rope_size = static_cast<int>(sizes.rope);
  const Tensor on_host = rope_table(rope_frequencies(rope_size, 10000.0, {}), sizes.tokens, host);
  Tensor table = Tensor::empty(on_host.shape(), DType::kFloat32, stream);
  from_host<float>(on_host.values<float>(), table, stream);
  const Tensor positions = bench.integers(sizes.tokens, [](auto i) { return i; });
  Tensor q = bench.bfloat16({sizes.tokens, sizes.heads * (sizes.nope + sizes.rope)});
  const RopeColumns columns{static_cast<int>(sizes.heads),
                            static_cast<int>(sizes.nope + sizes.rope), static_cast<int>(sizes.nope),
                            rope_size};
  const double rotated = 2.0 * static_cast<double>(sizes.tokens * sizes.heads * sizes.rope);
  bench.time("rope in place", words(q), {0, 2 * rotated},
             [&] { rope(columns, RopeDirection::kForward, table, positions, q, q, stream); });
}

void time_embedding(Bench& bench, const Sizes& sizes) {
  Stream& stream = bench.stream();
  const Tensor table = bench.bfloat16({sizes.vocabulary, sizes.hidden});
  const Tensor tokens =
      bench.integers(sizes.tokens, [&](auto i) { return i * 7919 % sizes.vocabulary; });
  Tensor x = bench.bfloat16({sizes.tokens, sizes.hidden});
  GradientSum grad = bench.gradient(table.shape(), sizes.unit_tokens);
  bench.time("embedding forward", words(x), traffic(x, x),
             [&] { embedding_forward(tokens, table, 0, x, stream); });
  const double sums = 2 * bench.gradient_bytes() * static_cast<double>(x.numel());
  bench.time("embedding backward", words(x), {0, traffic(x).bytes + sums},
             [&] { embedding_backward(tokens, x, 0, grad, stream); });
}

struct Route {
  RouterOptions options;
  Tensor ids, gates, d_gates, slot_of_row, row_of_slot, counts;
};

void time_router(Bench& bench, const Sizes& sizes, Route& route) {
  Stream& stream = bench.stream();
  const Tensor logits = bench.float32({sizes.tokens, sizes.experts});
  const Tensor bias = bench.random({sizes.experts}, DType::kFloat32, 0.01F);
  Tensor scores = bench.float32(logits.shape());
  Tensor d_logits = bench.float32(logits.shape());
  // Also without being timed: the operations after it need its choice.
  router_forward(route.options, logits, bias, scores, route.ids, route.gates, stream);
  bench.time("router forward", words(logits), traffic(logits, scores, route.ids, route.gates), [&] {
    router_forward(route.options, logits, bias, scores, route.ids, route.gates, stream);
  });
  bench.time(
      "router backward", words(logits), traffic(scores, logits, d_logits, route.d_gates), [&] {
        router_backward(route.options, scores, route.ids, route.d_gates, logits, d_logits, stream);
      });
  sort_slots(route.ids, route.counts, route.slot_of_row, route.row_of_slot, stream);
  bench.time(
      "sort_slots", words(route.ids), traffic(route.ids, route.slot_of_row, route.row_of_slot),
      [&] { sort_slots(route.ids, route.counts, route.slot_of_row, route.row_of_slot, stream); });
}

void time_permutation(Bench& bench, const Sizes& sizes, Route& route) {
  Stream& stream = bench.stream();
  Tensor x = bench.bfloat16({sizes.tokens, sizes.hidden});
  Tensor rows = bench.bfloat16({sizes.slots(), sizes.hidden});
  Tensor d_rows = bench.bfloat16(rows.shape());
  const std::string shape = words(rows);
  bench.time("permute forward", shape, traffic(x, rows),
             [&] { permute_forward(x, route.slot_of_row, route.options.top_k, rows, stream); });
  bench.time("combine backward", shape, traffic(x, rows, d_rows), [&] {
    combine_backward(x, rows, route.row_of_slot, route.gates, d_rows, route.d_gates, stream);
  });
  bench.time("permute backward", shape, traffic(d_rows, x),
             [&] { permute_backward(d_rows, route.row_of_slot, x, false, stream); });
  bench.time("combine forward", shape, traffic(rows, x, x),
             [&] { combine_forward(rows, route.row_of_slot, route.gates, x, stream); });
}

// The moments of the given dtype; all else float32, and the values bfloat16.
void time_adamw(Bench& bench, const char* name, const Tensor& gradient, DType moments) {
  Stream& stream = bench.stream();
  Tensor master = bench.float32(gradient.shape());
  Tensor value = bench.bfloat16(gradient.shape());
  Tensor exp_avg = bench.random(gradient.shape(), moments, 1e-3F);
  Tensor exp_avg_sq = Tensor::empty(gradient.shape(), moments, stream);
  fill(exp_avg_sq, 1e-6F, stream);
  AdamWOptions options;
  options.learning_rate = 1e-4;
  options.weight_decay = 0.1;
  bench.time(name, words(gradient),
             traffic(gradient, master, master, value, exp_avg, exp_avg, exp_avg_sq, exp_avg_sq),
             [&] { adamw_step(options, gradient, master, value, exp_avg, exp_avg_sq, stream); });
}

}  // namespace

void time_rows(Bench& bench, const Sizes& sizes) {
  time_norm(bench, sizes);
  time_swiglu(bench, sizes);
  time_rope(bench, sizes);
  time_embedding(bench, sizes);
}

void time_routing(Bench& bench, const Sizes& sizes) {
  Route route;
  route.options.num_experts = static_cast<int>(sizes.experts);
  route.options.top_k = static_cast<int>(sizes.top_k);
  route.gates = bench.float32({sizes.tokens, sizes.top_k});
  route.d_gates = bench.float32(route.gates.shape());
  const auto zeros = [&](const Shape& shape, DType dtype) {
    return Tensor::zeros(shape, dtype, bench.stream());
  };
  route.ids = zeros(route.gates.shape(), DType::kInt32);
  route.slot_of_row = zeros({sizes.slots()}, DType::kInt32);
  route.row_of_slot = zeros({sizes.slots()}, DType::kInt32);
  route.counts = zeros({sizes.experts}, DType::kInt64);
  time_router(bench, sizes, route);
  time_permutation(bench, sizes, route);
}

void time_head(Bench& bench, const Sizes& sizes) {
  Stream& stream = bench.stream();
  Tensor logits = bench.random({sizes.tokens, sizes.vocabulary},
                               bench.is_exact() ? DType::kFloat32 : DType::kBFloat16);
  const int chunks = bench.num_chunks();
  const Tensor targets =
      bench.integers(sizes.tokens, [&](auto i) { return i * 7919 % sizes.vocabulary; });
  Tensor row_max = bench.float32({sizes.tokens});
  Tensor sums = bench.float32({2, sizes.tokens});
  const Tensor weights = bench.float32(row_max.shape());
  const std::string shape = words(logits);
  bench.time("cross_entropy row_max", shape, traffic(logits),
             [&] { cross_entropy_row_max(logits, row_max, sums, stream); });
  bench.time("cross_entropy exp_sum", shape, traffic(row_max, sums, sums),
             [&] { cross_entropy_exp_sum(logits, {targets, 0, chunks}, row_max, sums, stream); });
  fill(sums, 1.0F, stream);  // so that repeating it does not shrink the numbers away
  bench.time("cross_entropy backward", shape, traffic(logits, logits),
             [&] { cross_entropy_backward(logits, {targets, weights, row_max, sums}, 0, stream); });
  // All of it, as one rank with all classes does it.
  Tensor loss = bench.float32(row_max.shape());
  bench.time("cross_entropy", shape, traffic(logits, logits, logits), [&] {
    cross_entropy_row_max(logits, row_max, sums, stream);
    cross_entropy_exp_sum(logits, {targets, 0, chunks}, row_max, sums, stream);
    cross_entropy_loss(sums, weights, loss, stream);
    cross_entropy_backward(logits, {targets, weights, row_max, sums}, 0, stream);
  });
}

void time_optimizer(Bench& bench, const Sizes& sizes) {
  Stream& stream = bench.stream();
  const Tensor gradient = bench.random(Shape{sizes.parameters}, DType::kFloat32, 1e-3F);
  time_adamw(bench, "adamw", gradient, DType::kFloat32);
  time_adamw(bench, "adamw, moments of bfloat16", gradient, DType::kBFloat16);
  Tensor sum = Tensor::zeros(Shape{kExactSumIntegers}, DType::kInt64, stream);
  Tensor num_non_finite = Tensor::zeros(Shape{1}, DType::kInt64, stream);
  bench.time("sum_of_squares", words(gradient), traffic(gradient),
             [&] { sum_of_squares(gradient, sum, num_non_finite, stream); });
}

}  // namespace fathom::bench
