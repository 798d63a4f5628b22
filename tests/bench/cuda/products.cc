#include "core/error.h"
#include "kernels/attention.h"
#include "kernels/grouped_matmul.h"
#include "kernels/matmul.h"
#include "tests/bench/cuda/bench.h"

namespace fathom::bench {
namespace {

using namespace kernels;

struct Linear {
  const char* name;
  std::int64_t rows, in, out;
  DType y_dtype = DType::kBFloat16;
};

double numbers(std::int64_t count, double bytes_each) {
  return static_cast<double>(count) * bytes_each;
}

void time_linear(Bench& bench, const Linear& linear) {
  const auto [name, rows, in, out, y_dtype] = linear;
  const std::string shape = concat(rows, "x", in, "->", out);
  const double flops = 2.0 * static_cast<double>(rows * in) * static_cast<double>(out);
  const double y_bytes = y_dtype == DType::kBFloat16 ? 2 : 4;
  const double bytes = numbers(rows * in + in * out, 2) + numbers(rows * out, y_bytes);
  Tensor x = bench.bfloat16({rows, in});
  const Tensor w = bench.bfloat16({out, in});
  Tensor y = bench.random({rows, out}, y_dtype);
  GradientSum dw;
  dw.sum = bench.float32({out, in});
  const std::string op = concat("matmul ", name);
  Stream& stream = bench.stream();
  bench.time(op + " forward", shape, {flops, bytes}, [&] { matmul_forward(x, w, y, 1, stream); });
  bench.time(op + " backward_weight", shape, {flops, bytes + numbers(in * out, 6)},
             [&] { matmul_backward_weight(y, x, dw, stream); });
  bench.time(op + " first backward_weight", shape, {flops, bytes + numbers(in * out, 2)}, [&] {
    dw.is_empty = true;
    matmul_backward_weight(y, x, dw, stream);
  });
  bench.time(op + " backward_input", shape, {flops, bytes},
             [&] { matmul_backward_input(y, w, x, {}, stream); });
}

// Rows of each expert; `skew` times the mean for the first, the rest alike.
std::vector<std::int64_t> expert_offsets(const Sizes& sizes, double skew) {
  const auto mean = static_cast<double>(sizes.slots()) / static_cast<double>(sizes.experts);
  const auto first = static_cast<std::int64_t>(skew * mean);
  std::vector<std::int64_t> offsets{0, first};
  for (std::int64_t e = 1; e < sizes.experts; ++e) {
    offsets.push_back(first + (sizes.slots() - first) * e / (sizes.experts - 1));
  }
  return offsets;
}

struct ExpertLinear {
  const char* name;
  std::int64_t in, out;
};

void time_expert_linear(Bench& bench, const Sizes& sizes, const ExpertLinear& linear, double skew) {
  const auto [name, in, out] = linear;
  const std::int64_t rows = sizes.slots();
  const std::string shape = concat(sizes.experts, " experts, ", rows, "x", in, "->", out,
                                   skew > 1 ? ", first has 4 times the mean" : "");
  const double flops = 2.0 * static_cast<double>(rows * in) * static_cast<double>(out);
  const std::int64_t weights = sizes.experts * in * out;
  const double bytes = numbers(rows * (in + out) + weights, 2);
  Tensor x = bench.bfloat16({rows, in});
  const Tensor w = bench.bfloat16({sizes.experts, out, in});
  Tensor y = bench.bfloat16({rows, out});
  GradientSum dw;
  dw.sum = bench.float32({sizes.experts, out, in});
  const Tensor offsets = bench.offsets(expert_offsets(sizes, skew));
  const std::string op = concat("grouped_matmul ", name);
  Stream& stream = bench.stream();
  bench.time(op + " forward", shape, {flops, bytes},
             [&] { grouped_matmul_forward(x, w, offsets, y, stream); });
  bench.time(op + " backward_weight", shape, {flops, bytes + numbers(weights, 6)},
             [&] { grouped_matmul_backward_weight(y, x, offsets, dw, stream); });
  bench.time(op + " first backward_weight", shape, {flops, bytes + numbers(weights, 2)}, [&] {
    dw.is_empty = true;
    grouped_matmul_backward_weight(y, x, offsets, dw, stream);
  });
  bench.time(op + " backward_input", shape, {flops, bytes},
             [&] { grouped_matmul_backward_input(y, w, offsets, x, stream); });
}

}  // namespace

void time_products(Bench& bench, const Sizes& s) {
  const Linear linears[] = {
      {"q", s.tokens, s.hidden, s.heads * (s.nope + s.rope)},
      {"kv_a", s.tokens, s.hidden, s.latent + s.rope},
      {"kv_b", s.tokens, s.latent, s.heads * (s.nope + s.value)},
      {"o", s.tokens, s.heads * s.value, s.hidden},
      {"dense gate_up", s.tokens, s.hidden, 2 * s.dense_hidden},
      {"dense down", s.tokens, s.dense_hidden, s.hidden},
      {"shared gate_up", s.tokens, s.hidden, 2 * s.shared_hidden},
      {"shared down", s.tokens, s.shared_hidden, s.hidden},
      {"router", s.tokens, s.hidden, s.experts, DType::kFloat32},
      {"head", s.tokens, s.hidden, s.vocabulary},
  };
  for (const Linear& linear : linears) {
    time_linear(bench, linear);
  }
}

void time_experts(Bench& bench, const Sizes& sizes) {
  for (const double skew : {1.0, 4.0}) {
    time_expert_linear(bench, sizes, {"gate_up", sizes.hidden, 2 * sizes.expert_hidden}, skew);
    time_expert_linear(bench, sizes, {"down", sizes.expert_hidden, sizes.hidden}, skew);
  }
  Sizes of_rank = sizes;
  of_rank.experts = sizes.rank_experts;
  of_rank.tokens = sizes.rank_experts * sizes.rank_expert_tokens;
  of_rank.top_k = 1;
  time_expert_linear(bench, of_rank, {"gate_up", sizes.hidden, 2 * sizes.expert_hidden}, 1.0);
  time_expert_linear(bench, of_rank, {"down", sizes.expert_hidden, sizes.hidden}, 1.0);
}

void time_attention(Bench& bench, const Sizes& s) {
  const AttentionShape shape = attention_shape(s);
  const Tensor q = bench.bfloat16({s.tokens, s.heads * (s.nope + s.rope)});
  const Tensor kv = bench.bfloat16({s.tokens, s.heads * (s.nope + s.value)});
  const Tensor latent = bench.bfloat16({s.tokens, s.latent + s.rope});
  const Tensor segments = bench.integers(2, [&](auto i) { return i * s.tokens; });
  Tensor out = bench.bfloat16({s.tokens, s.heads * s.value});
  Tensor lse = bench.float32({s.tokens, s.heads});
  const AttentionInputs inputs{q, kv, latent, segments};
  // Half of the squares of scores and of their products with the values is above the diagonal.
  const double pairs = 0.5 * static_cast<double>(s.tokens) * static_cast<double>(s.tokens) *
                       static_cast<double>(s.heads);
  const auto key = static_cast<double>(s.nope + s.rope);
  const auto value = static_cast<double>(s.value);
  const double bytes = static_cast<double>(q.size_bytes() + kv.size_bytes() + out.size_bytes()) +
                       numbers(s.tokens * s.rope, 2);
  const std::string words = concat(s.tokens, " tokens, ", s.heads, " heads of ", s.nope + s.rope,
                                   "/", s.value, ", causal");
  Stream& stream = bench.stream();
  bench.time("attention forward", words, {2 * pairs * (key + value), bytes},
             [&] { attention_forward(shape, inputs, out, lse, stream); });
  const Tensor dout = bench.bfloat16(out.shape());
  Tensor dq = bench.bfloat16(q.shape());
  Tensor dkv = bench.bfloat16(kv.shape());
  Tensor dlatent = bench.bfloat16(latent.shape());
  bench.time("attention backward", words, {2 * pairs * (3 * key + 2 * value), 2 * bytes}, [&] {
    attention_backward(shape, {inputs, out, lse}, dout, dq, dkv, dlatent, stream);
  });
}

}  // namespace fathom::bench
