// Attention forward and backward in ms and GFLOP/s: attention_bench [threads] [segments] [tokens a
// segment] [heads] [nope] [rope] [value]. Without arguments: configs/models/small.textproto, 8
// sequences of 256 tokens. Counted are the products on and below the diagonal: forward q k, p v;
// backward q k, dout v, and those of dq, dk, dv.
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/attention.h"
#include "tests/bench/timing.h"

namespace {

using fathom::DType;
using fathom::Stream;
using fathom::Tensor;

Tensor filled(fathom::Shape shape, Stream& stream) {
  Tensor t = Tensor::empty(shape, DType::kFloat32, stream);
  for (std::size_t i = 0; i < t.values<float>().size(); ++i) {
    t.mutable_values<float>()[i] = static_cast<float>(i * 7919 % 1001) / 500 - 1;
  }
  return t;
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int index, int otherwise) {
    return argc > index ? std::atoi(argv[index]) : otherwise;
  };
  const int num_threads = argument(1, 1);
  const int num_segments = argument(2, 8);
  const int length = argument(3, 256);
  fathom::kernels::AttentionShape shape;
  shape.num_heads = argument(4, 4);
  shape.nope_size = argument(5, 32);
  shape.rope_size = argument(6, 16);
  shape.value_size = argument(7, 32);
  const int key_size = shape.nope_size + shape.rope_size;
  shape.scale = 1.0F / std::sqrt(static_cast<float>(key_size));

  Stream stream({}, num_threads);
  const std::int64_t num_tokens = std::int64_t{num_segments} * length;
  const Tensor q = filled({num_tokens, shape.num_heads * key_size}, stream);
  const Tensor kv =
      filled({num_tokens, shape.num_heads * (shape.nope_size + shape.value_size)}, stream);
  const Tensor latent = filled({num_tokens, shape.rope_size}, stream);
  Tensor segments = Tensor::empty({num_segments + 1}, DType::kInt32, stream);
  for (int i = 0; i <= num_segments; ++i) {
    segments.mutable_data<std::int32_t>()[i] = i * length;
  }
  Tensor out = filled({num_tokens, shape.num_heads * shape.value_size}, stream);
  Tensor lse = filled({num_tokens, shape.num_heads}, stream);
  const Tensor dout = filled(out.shape(), stream);
  Tensor dq = filled(q.shape(), stream);
  Tensor dkv = filled(kv.shape(), stream);
  Tensor dlatent = filled(latent.shape(), stream);

  const double forward = fathom::bench::best_seconds(num_threads == 1, 1.0, [&] {
    fathom::kernels::attention_forward(shape, {q, kv, latent, segments}, out, lse, stream);
  });
  const double backward = fathom::bench::best_seconds(num_threads == 1, 1.0, [&] {
    fathom::kernels::attention_backward(shape, {{q, kv, latent, segments}, out, lse}, dout, dq, dkv,
                                        dlatent, stream);
  });
  const double pairs = 0.5 * length * (length + 1.0) * num_segments * shape.num_heads;
  const double forward_gflop = 2e-9 * pairs * (key_size + shape.value_size);
  const double backward_gflop = 2e-9 * pairs * (3 * key_size + 2 * shape.value_size);
  std::printf(
      "%d x %d tokens, %d heads of %d+%d/%d, %d threads: forward %.2f ms, %.1f GFLOP/s; "
      "backward %.2f ms, %.1f GFLOP/s\n",
      num_segments, length, shape.num_heads, shape.nope_size, shape.rope_size, shape.value_size,
      num_threads, forward * 1e3, forward_gflop / forward, backward * 1e3,
      backward_gflop / backward);
}
