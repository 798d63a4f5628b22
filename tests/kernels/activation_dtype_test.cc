// Which dtypes the public functions take on which device. On the meta device the checks run and no
// kernel does.
#include <functional>

#include "core/error.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/grouped_matmul.h"
#include "kernels/latent_attention.h"
#include "kernels/matmul.h"
#include "kernels/packed_matmul.h"
#include "kernels/paged_attention.h"
#include "kernels/permute.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "tests/support/catch.h"

namespace fathom::kernels {
namespace {

constexpr std::int64_t kTokens = 4;
constexpr std::int64_t kHidden = 8;

// Calls `run` with a function that makes activations: all of bfloat16, but of float32 the
// `odd`-th; returns how many there were.
class Activations {
 public:
  Activations(DType dtype, int odd, Stream& stream) : dtype_(dtype), odd_(odd), stream_(&stream) {}
  Tensor operator()(const Shape& shape) {
    return Tensor::empty(shape, count_++ == odd_ ? DType::kFloat32 : dtype_, *stream_);
  }
  int count() const { return count_; }

 private:
  DType dtype_;
  int odd_;
  Stream* stream_;
  int count_ = 0;
};

using Run = std::function<void(Activations&, Stream&)>;

Tensor floats(const Shape& shape, Stream& stream) {
  return Tensor::empty(shape, DType::kFloat32, stream);
}
Tensor integers(const Shape& shape, Stream& stream) {
  return Tensor::empty(shape, DType::kInt32, stream);
}

// bfloat16 is taken by the meta device when all are bfloat16, and never by the CPU.
void check_dtypes(const Run& run) {
  Stream meta(Device{DeviceType::kMeta, 0});
  Activations all(DType::kBFloat16, -1, meta);
  REQUIRE_NOTHROW(run(all, meta));
  for (int odd = 0; odd < all.count() && all.count() > 1; ++odd) {
    INFO("activation " << odd << " is float32");
    Activations mixed(DType::kBFloat16, odd, meta);
    CHECK_THROWS_AS(run(mixed, meta), InternalError);
  }
  Activations floating(DType::kFloat32, -1, meta);
  REQUIRE_NOTHROW(run(floating, meta));
  Stream cpu;
  Activations on_cpu(DType::kBFloat16, -1, cpu);
  CHECK_THROWS_AS(run(on_cpu, cpu), InternalError);
}

AttentionShape small_attention() {
  AttentionShape shape;
  shape.num_heads = 2;
  shape.nope_size = 4;
  shape.rope_size = 2;
  shape.value_size = 3;
  shape.rope_column = 5;
  return shape;
}

}  // namespace

TEST_CASE("Element by element: bfloat16 on other devices than the CPU, alike in a call") {
  const Shape shape{kTokens, kHidden};
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor a = make(shape);
    const Tensor b = make(shape);
    Tensor out = make(shape);
    add(a, b, out, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    Tensor a = make(shape);
    add_in_place(a, make(shape), stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    Tensor x = make(shape);
    scale(x, 2.0F, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor from = make(shape);
    Tensor to = make(shape);
    copy_columns(from, 0, to, 2, 3, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor gate_up = make(shape);
    Tensor y = make({kTokens, kHidden / 2});
    swiglu_forward(gate_up, y, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor gate_up = make(shape);
    const Tensor dy = make({kTokens, kHidden / 2});
    Tensor d_gate_up = make(shape);
    swiglu_backward(dy, gate_up, d_gate_up, stream);
  });
}

TEST_CASE("Rows: bfloat16 on other devices than the CPU, alike in a call") {
  const Shape shape{kTokens, kHidden};
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor x = make(shape);
    const Tensor gain = make({kHidden});
    Tensor y = make(shape);
    Tensor inv_rms = floats({kTokens}, stream);
    rms_norm_forward(x, gain, 1e-6F, y, inv_rms, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor x = make(shape);
    const Tensor dy = make(shape);
    const Tensor gain = make({kHidden});
    Tensor dx = make(shape);
    GradientSum gain_grad{floats({kHidden}, stream), {}};
    rms_norm_backward(dy, {x, gain, floats({kTokens}, stream)}, dx, gain_grad, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor h = make(shape);
    const Tensor dy = make(shape);
    const Tensor dh = make(shape);
    const Tensor gain = make({kHidden});
    Tensor dx = make(shape);
    GradientSum gain_grad{floats({kHidden}, stream), {}};
    add_rms_norm_backward(dy, {h, gain, floats({kTokens}, stream)}, dh, dx, gain_grad, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor source = make(shape);
    Tensor destination = make(shape);
    rope({2, 4, 0, 2}, RopeDirection::kForward, floats({16, 2}, stream),
         integers({kTokens}, stream), source, destination, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor table = make({16, kHidden});
    Tensor out = make(shape);
    embedding_forward(integers({kTokens}, stream), table, 0, out, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor x = make(shape);
    Tensor rows = make({2 * kTokens, kHidden});
    permute_forward(x, integers({2 * kTokens}, stream), 2, rows, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor dy = make(shape);
    const Tensor rows = make({2 * kTokens, kHidden});
    Tensor d_rows = make({2 * kTokens, kHidden});
    Tensor d_gates = floats({kTokens, 2}, stream);
    combine_backward(dy, rows, integers({2 * kTokens}, stream), floats({kTokens, 2}, stream),
                     d_rows, d_gates, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor source = make(shape);
    Tensor destination = make({3, kHidden});
    gather_rows(source, integers({3}, stream), destination, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    Tensor logits = make(shape);
    Tensor row_max = floats({kTokens}, stream);
    Tensor sums = floats({2, kTokens}, stream);
    cross_entropy_row_max(logits, row_max, sums, stream);
  });
}

TEST_CASE("Products: bfloat16 on other devices than the CPU, alike in a call but for y and dx") {
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor x = make({kTokens, kHidden});
    const Tensor w = make({3, kHidden});
    Tensor y = floats({kTokens, 3}, stream);
    matmul_forward(x, w, y, 1, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor w = make({3, kHidden});
    Tensor dx = floats({kTokens, kHidden}, stream);
    matmul_backward_input(floats({kTokens, 3}, stream), w, dx, {}, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor x = make({kTokens, kHidden});
    const Tensor w = make({2, 3, kHidden});
    Tensor y = make({kTokens, 3});
    grouped_matmul_forward(x, w, Tensor::empty({3}, DType::kInt64, stream), y, stream);
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor x = make({kTokens, kHidden});
    const Tensor packed = make({2, 1, 4, 16});
    Tensor y = make({kTokens, 6});
    packed_head_matmul_forward(x, packed, y, stream);
  });
  Stream meta(Device{DeviceType::kMeta, 0});
  const auto halves = [&](const Shape& shape) {
    return Tensor::empty(shape, DType::kBFloat16, meta);
  };
  Tensor dx = halves({kTokens, kHidden});
  CHECK_NOTHROW(matmul_backward_input(halves({kTokens, 3}), halves({3, kHidden}), dx, {}, meta));
  CHECK_THROWS_AS(
      matmul_backward_input(floats({kTokens, 3}, meta), floats({3, kHidden}, meta), dx, {}, meta),
      InternalError);
  Tensor y = halves({kTokens, 3});
  CHECK_NOTHROW(matmul_forward(halves({kTokens, kHidden}), halves({3, kHidden}), y, 1, meta));
  CHECK_THROWS_AS(
      matmul_forward(floats({kTokens, kHidden}, meta), floats({3, kHidden}, meta), y, 1, meta),
      InternalError);
  GradientSum dw{floats({3, kHidden}, meta), {}};
  CHECK_NOTHROW(matmul_backward_weight(y, halves({kTokens, kHidden}), dw, meta));
  CHECK_NOTHROW(
      matmul_backward_weight(floats({kTokens, 3}, meta), halves({kTokens, kHidden}), dw, meta));
  dw.sum = halves({3, kHidden});
  CHECK_THROWS_AS(matmul_backward_weight(y, halves({kTokens, kHidden}), dw, meta), InternalError);
}

TEST_CASE("Attention: bfloat16 on other devices than the CPU, alike in a call") {
  const AttentionShape shape = small_attention();
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor q = make({kTokens, 12});
    const Tensor kv = make({kTokens, 14});
    const Tensor latent = make({kTokens, 7});
    Tensor out = make({kTokens, 6});
    Tensor lse = floats({kTokens, 2}, stream);
    attention_forward(shape, {q, kv, latent, integers({2}, stream)}, out, lse, stream);
  });
  const auto backward = [&](Activations& make, Tensor dlatent, Stream& stream) {
    const Tensor q = make({kTokens, 12});
    const Tensor kv = make({kTokens, 14});
    const Tensor latent = make({kTokens, 7});
    const Tensor out = make({kTokens, 6});
    const Tensor dout = make({kTokens, 6});
    Tensor dq = make({kTokens, 12});
    Tensor dkv = make({kTokens, 14});
    const Tensor segments = integers({2}, stream);
    attention_backward(shape, {{q, kv, latent, segments}, out, floats({kTokens, 2}, stream)}, dout,
                       dq, dkv, dlatent, stream);
  };
  // The sum over heads may be float32 beside all of them, but not bfloat16 beside float32.
  check_dtypes([&](Activations& make, Stream& stream) {
    backward(make, floats({kTokens, 7}, stream), stream);
  });
  Stream meta(Device{DeviceType::kMeta, 0});
  const Tensor half = Tensor::empty({kTokens, 7}, DType::kBFloat16, meta);
  Activations halves(DType::kBFloat16, -1, meta);
  CHECK_NOTHROW(backward(halves, half, meta));
  Activations all_float(DType::kFloat32, -1, meta);
  CHECK_THROWS_AS(backward(all_float, half, meta), InternalError);
}

TEST_CASE("Kept sequences: bfloat16 on other devices than the CPU, alike in a call") {
  const AttentionShape shape = small_attention();
  const auto with_sequences = [](Stream& stream, const auto& run) {
    const Tensor spans = integers({1, 4}, stream);
    const Tensor pages = integers({1}, stream);
    const Tensor copies = integers({0, 2}, stream);
    run(PagedSequences{spans, pages, copies});
  };
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor kv = make({kTokens, 14});
    const Tensor latent = make({kTokens, 7});
    Tensor cache = make(attention_pages_shape(shape, 1));
    with_sequences(stream, [&](const PagedSequences& sequences) {
      keep_in_pages(shape, kv, latent, sequences, cache, stream);
    });
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor q = make({kTokens, 12});
    const Tensor cache = make(attention_pages_shape(shape, 1));
    Tensor out = make({kTokens, 6});
    with_sequences(stream, [&](const PagedSequences& sequences) {
      paged_attention_forward(shape, q, sequences, cache, out, stream);
    });
  });
  check_dtypes([&](Activations& make, Stream& stream) {
    const Tensor q = make({kTokens, 12});
    const Tensor absorbed = make({kTokens, 10});
    const Tensor cache = make(latent_pages_shape(shape, 1));
    Tensor out = make({kTokens, 10});
    with_sequences(stream, [&](const PagedSequences& sequences) {
      latent_attention_forward(shape, {q, absorbed}, sequences, cache, out, stream);
    });
  });
}

}  // namespace fathom::kernels
