#include "core/error.h"
#include "kernels/latent_attention.h"
#include "kernels/packed_matmul.h"
#include "tests/bench/cuda/bench.h"

namespace fathom::bench {
namespace {

using namespace kernels;

double bytes_of(const Tensor& tensor) { return static_cast<double>(tensor.size_bytes()); }

void time_heads(Bench& bench, const std::string& name, const Tensor& x, const Tensor& packed,
                std::int64_t out_size) {
  const std::int64_t heads = packed.size(0);
  const std::int64_t in_size = packed.size(2);
  Tensor y = bench.bfloat16({x.size(0), heads * out_size});
  const double flops = 2.0 * static_cast<double>(y.numel()) * static_cast<double>(in_size);
  const double x_bytes = 2.0 * static_cast<double>(x.size(0) * heads * in_size);
  bench.time("packed_head_matmul " + name,
             concat(heads, " heads, ", x.size(0), "x", in_size, "->", out_size),
             {flops, x_bytes + bytes_of(packed) + bytes_of(y)},
             [&] { packed_head_matmul_forward(x, packed, y, bench.stream()); });
}

}  // namespace

void time_decoding(Bench& bench, const Sizes& s) {
  Stream& stream = bench.stream();
  const AttentionShape shape = attention_shape(s);
  const std::int64_t pages_each = (s.sequence_tokens + kPageTokens - 1) / kPageTokens;
  const std::int64_t num_pages = s.sequences * pages_each;
  const Tensor spans = bench.integers(4 * s.sequences, [&](std::int64_t i) {
    const std::int64_t sequence = i / 4;
    const std::int64_t span[4] = {sequence, 1, s.sequence_tokens, sequence * pages_each};
    return span[i % 4];
  });
  const Tensor pages = bench.integers(num_pages, [&](auto i) { return i * 7919 % num_pages; });
  const Tensor copies = Tensor::empty({0, 2}, DType::kInt32, stream);
  const Tensor span_rows = spans.reshape({s.sequences, 4});
  const PagedSequences sequences{span_rows, pages, copies};

  const Tensor kv_b = bench.bfloat16({s.heads * (s.nope + s.value), s.latent});
  Tensor key = bench.bfloat16(packed_shape({s.heads, s.latent, s.nope}));
  Tensor value = bench.bfloat16(packed_shape({s.heads, s.value, s.latent}));
  pack_absorbed(shape, kv_b, key, value, stream);
  const Tensor q = bench.bfloat16({s.sequences, s.heads * (s.nope + s.rope)});
  const Tensor absorbed = bench.bfloat16({s.sequences, s.heads * s.latent});
  Tensor latents = bench.bfloat16(absorbed.shape());
  const Tensor cache = bench.bfloat16(latent_pages_shape(shape, num_pages));
  time_heads(bench, "of queries", q, key, s.latent);
  const double keys = static_cast<double>(s.sequences * s.sequence_tokens);
  const auto row = static_cast<double>(s.latent + s.rope);
  bench.time(
      "latent_attention",
      concat(s.sequences, " sequences of ", s.sequence_tokens, " tokens, ", s.heads, " heads of ",
             s.latent, " + ", s.rope),
      {2 * keys * static_cast<double>(s.heads) * (row + static_cast<double>(s.latent)),
       2 * keys * row + 2 * bytes_of(absorbed)},
      [&] { latent_attention_forward(shape, {q, absorbed}, sequences, cache, latents, stream); });
  time_heads(bench, "of values", latents, value, s.value);
}

}  // namespace fathom::bench
