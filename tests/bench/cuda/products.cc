#include <numeric>

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
  bool is_in_cut = false;  // by tensor parallelism
  bool is_out_cut = false;
  DType y_dtype = DType::kBFloat16;
};

double numbers(std::int64_t count, double bytes_each) {
  return static_cast<double>(count) * bytes_each;
}

void time_linear(Bench& bench, const Sizes& sizes, const Linear& linear) {
  const auto [name, rows, in, out, is_in_cut, is_out_cut, y_dtype] = linear;
  const std::string shape = concat(rows, "x", in, "->", out);
  const double flops = 2.0 * static_cast<double>(rows * in) * static_cast<double>(out);
  const double y_bytes = y_dtype == DType::kBFloat16 ? 2 : 4;
  const double bytes = numbers(rows * in + in * out, 2) + numbers(rows * out, y_bytes);
  Tensor x = bench.bfloat16({rows, in});
  const Tensor w = bench.bfloat16({out, in});
  Tensor y = bench.random({rows, out}, y_dtype);
  GradientSum dw = bench.gradient({out, in}, sizes.unit_tokens);
  const double sum_bytes = bench.gradient_bytes();
  const int in_chunks = is_in_cut ? bench.num_chunks() : 1;
  const int out_chunks = is_out_cut ? bench.num_chunks() : 1;
  const std::string op = concat("matmul ", name);
  Stream& stream = bench.stream();
  bench.time(op + " forward", shape, {flops, bytes},
             [&] { matmul_forward(x, w, y, in_chunks, stream); });
  bench.time(op + " backward_weight", shape, {flops, bytes + numbers(in * out, 2 * sum_bytes - 2)},
             [&] { matmul_backward_weight(y, x, dw, stream); });
  bench.time(op + " first backward_weight", shape,
             {flops, bytes + numbers(in * out, sum_bytes - 2)}, [&] {
               dw.is_empty = true;
               matmul_backward_weight(y, x, dw, stream);
             });
  bench.time(op + " backward_input", shape, {flops, bytes},
             [&] { matmul_backward_input(y, w, x, {.num_chunks = out_chunks}, stream); });
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

// Each expert's rows cut into as many parts as there are units of tokens.
std::vector<std::int64_t> part_offsets(const std::vector<std::int64_t>& offsets,
                                       std::int64_t num_parts) {
  std::vector<std::int64_t> parts{0};
  for (std::size_t expert = 0; expert + 1 < offsets.size(); ++expert) {
    const std::int64_t rows = offsets[expert + 1] - offsets[expert];
    for (std::int64_t part = 1; part <= num_parts; ++part) {
      parts.push_back(offsets[expert] + rows * part / num_parts);
    }
  }
  return parts;
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
  GradientSum dw = bench.gradient({sizes.experts, out, in}, 0);
  const double sum_bytes = bench.gradient_bytes();
  const std::vector<std::int64_t> of_experts = expert_offsets(sizes, skew);
  const Tensor offsets = bench.offsets(of_experts);
  const Tensor parts = bench.offsets(
      bench.is_exact() ? part_offsets(of_experts, sizes.tokens / sizes.unit_tokens) : of_experts);
  const std::string op = concat("grouped_matmul ", name);
  Stream& stream = bench.stream();
  bench.time(op + " forward", shape, {flops, bytes},
             [&] { grouped_matmul_forward(x, w, offsets, y, stream); });
  bench.time(op + " backward_weight", shape, {flops, bytes + numbers(weights, 2 * sum_bytes - 2)},
             [&] { grouped_matmul_backward_weight(y, x, parts, dw, stream); });
  bench.time(op + " first backward_weight", shape, {flops, bytes + numbers(weights, sum_bytes - 2)},
             [&] {
               dw.is_empty = true;
               grouped_matmul_backward_weight(y, x, parts, dw, stream);
             });
  bench.time(op + " backward_input", shape, {flops, bytes},
             [&] { grouped_matmul_backward_input(y, w, offsets, x, stream); });
}

}  // namespace

void time_products(Bench& bench, const Sizes& s) {
  const Linear linears[] = {
      {"q", s.tokens, s.hidden, s.heads * (s.nope + s.rope), false, true},
      {"kv_a", s.tokens, s.hidden, s.latent + s.rope},
      {"kv_b", s.tokens, s.latent, s.heads * (s.nope + s.value), false, true},
      {"o", s.tokens, s.heads * s.value, s.hidden, true, false},
      {"dense gate_up", s.tokens, s.hidden, 2 * s.dense_hidden, false, true},
      {"dense down", s.tokens, s.dense_hidden, s.hidden, true, false},
      {"shared gate_up", s.tokens, s.hidden, 2 * s.shared_hidden, false, true},
      {"shared down", s.tokens, s.shared_hidden, s.hidden, true, false},
      {"router", s.tokens, s.hidden, s.experts, false, false, DType::kFloat32},
      {"head", s.tokens, s.hidden, s.vocabulary, false, true},
  };
  for (const Linear& linear : linears) {
    time_linear(bench, s, linear);
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
  AttentionShape shape = attention_shape(s);
  shape.num_chunks = std::gcd(shape.num_heads, bench.num_chunks());
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
