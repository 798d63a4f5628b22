#include "core/cuda/launch.cuh"
#include "kernels/attention.h"
#include "kernels/cuda/cudnn_attention.h"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/expanded_attention.h"
#include "kernels/cuda/shared_memory.cuh"
#include "kernels/cuda/tiled_attention.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;

// Sizes in packs of N elements.
struct PackedSizes {
  int num_heads;
  int nope;
  int rope;
  int value;
  int latent_row;
  int rope_column;
};

template <int N>
PackedSizes packed_sizes(const AttentionShape& shape, const Tensor& latent) {
  return {shape.num_heads,
          shape.nope_size / N,
          shape.rope_size / N,
          shape.value_size / N,
          static_cast<int>(latent.size(1)) / N,
          shape.rope_column / N};
}

// Whether all parts of rows of kv, latent and keys are whole packs.
template <class T>
bool parts_fit_packs(const AttentionShape& shape, const Tensor& kv, const Tensor& latent) {
  return fits_packs<T>(shape.nope_size, {kv.raw()}) && fits_packs<T>(shape.value_size, {}) &&
         fits_packs<T>(shape.rope_size, {latent.raw()}) && fits_packs<T>(shape.rope_column, {}) &&
         fits_packs<T>(latent.size(1), {});
}

// keys[token, head] = [k_nope | k_rope], a block a token.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    expand_keys(const T* kv, const T* latent, T* keys, PackedSizes size) {
  using P = Pack<T, N>;
  const std::int64_t token = blockIdx.x;
  const int head_size = size.nope + size.rope;
  const auto* const nope =
      reinterpret_cast<const P*>(kv) + token * size.num_heads * (size.nope + size.value);
  const auto* const rope =
      reinterpret_cast<const P*>(latent) + token * size.latent_row + size.rope_column;
  auto* const to = reinterpret_cast<P*>(keys) + token * size.num_heads * head_size;
  for (int i = static_cast<int>(threadIdx.x); i < size.num_heads * head_size; i += kThreads) {
    const int head = i / head_size;
    const int column = i % head_size;
    to[i] = column < size.nope ? nope[head * (size.nope + size.value) + column]
                               : rope[column - size.nope];
  }
}

// sums[chunk, column] of the heads' k_rope columns: ascending over the heads of a chunk, then in a
// binary tree over the chunks into sums[0].
template <class T, int N>
__device__ void sum_over_heads(const T* dkeys, const PackedSizes& size, int num_chunks,
                               float* sums) {
  const int heads_of_chunk = size.num_heads / num_chunks;
  const int head_size = size.nope + size.rope;
  for (int i = static_cast<int>(threadIdx.x); i < num_chunks * size.rope; i += kThreads) {
    const int first_head = i / size.rope * heads_of_chunk;
    float sum[N] = {};
    for (int head = first_head; head < first_head + heads_of_chunk; ++head) {
      float term[N];
      load_floats<N>(dkeys + (head * head_size + size.nope + i % size.rope) * N, term);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        sum[j] += term[j];
      }
    }
    store_floats<N>(sum, sums + i * N);
  }
  const int num_columns = size.rope * N;
  for (int distance = 1; distance < num_chunks; distance *= 2) {
    __syncthreads();
    const int num_pairs = num_chunks / (2 * distance);
    for (int i = static_cast<int>(threadIdx.x); i < num_pairs * num_columns; i += kThreads) {
      const int left = i / num_columns * 2 * distance * num_columns + i % num_columns;
      sums[left] += sums[left + distance * num_columns];
    }
  }
  __syncthreads();
}

// dkv's k_nope columns and, summed over the heads, dlatent's k_rope columns: a block a token.
template <class T, class Sum, int N>
__global__ void __launch_bounds__(kThreads, 4)
    split_key_gradients(const T* dkeys, T* dkv, Sum* dlatent, PackedSizes size, int num_chunks) {
  using P = Pack<T, N>;
  const std::int64_t token = blockIdx.x;
  const int head_size = size.nope + size.rope;
  const T* const from = dkeys + token * size.num_heads * head_size * N;
  auto* const sums = reinterpret_cast<float*>(dynamic_shared());
  sum_over_heads<T, N>(from, size, num_chunks, sums);
  Sum* const rope = dlatent + (token * size.latent_row + size.rope_column) * N;
  for (int column = static_cast<int>(threadIdx.x); column < size.rope; column += kThreads) {
    float sum[N];
    load_floats<N>(sums + column * N, sum);
    store_floats<N>(sum, rope + column * N);
  }
  auto* const nope = reinterpret_cast<P*>(dkv) + token * size.num_heads * (size.nope + size.value);
  for (int i = static_cast<int>(threadIdx.x); i < size.num_heads * size.nope; i += kThreads) {
    const int head = i / size.nope;
    const int column = i % size.nope;
    nope[head * (size.nope + size.value) + column] =
        reinterpret_cast<const P*>(from)[head * head_size + column];
  }
}

template <class T, int N>
void launch_expand(const AttentionShape& shape, const AttentionInputs& inputs, Tensor& keys,
                   Stream& stream) {
  launch(expand_keys<T, N>, {keys.size(0), kThreads}, stream, device_data<T>(inputs.kv),
         device_data<T>(inputs.latent), device_data<T>(keys),
         packed_sizes<N>(shape, inputs.latent));
}

Tensor expanded_keys(const AttentionShape& shape, const AttentionInputs& inputs, Stream& stream) {
  Tensor keys = Tensor::empty(inputs.q.shape(), inputs.q.dtype(), stream);
  with_activation_type(keys.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (parts_fit_packs<T>(shape, inputs.kv, inputs.latent)) {
      launch_expand<T, kPackSize<T>>(shape, inputs, keys, stream);
    } else {
      launch_expand<T, 1>(shape, inputs, keys, stream);
    }
  });
  return keys;
}

template <class T, class Sum, int N>
void launch_split(const AttentionShape& shape, const Tensor& dkeys, Tensor& dkv, Tensor& dlatent,
                  Stream& stream) {
  const std::int64_t shared = std::int64_t{shape.num_chunks} * shape.rope_size * sizeof(float);
  launch(split_key_gradients<T, Sum, N>, {dlatent.size(0), kThreads, shared}, stream,
         device_data<T>(dkeys), device_data<T>(dkv), device_data<Sum>(dlatent),
         packed_sizes<N>(shape, dlatent), shape.num_chunks);
}

void split_gradients(const AttentionShape& shape, const Tensor& dkeys, Tensor& dkv, Tensor& dlatent,
                     Stream& stream) {
  with_activation_type(dkeys.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto split_into = [&](auto sum_tag) {
      using Sum = typename decltype(sum_tag)::type;
      if (parts_fit_packs<T>(shape, dkv, dlatent)) {
        launch_split<T, Sum, kPackSize<T>>(shape, dkeys, dkv, dlatent, stream);
      } else {
        launch_split<T, Sum, 1>(shape, dkeys, dkv, dlatent, stream);
      }
    };
    if (dlatent.dtype() == dkeys.dtype()) {
      split_into(tag);
    } else {
      split_into(TypeTag<float>());
    }
  });
}

ExpandedAttention expanded(const AttentionShape& shape, const AttentionInputs& inputs,
                           const Tensor& keys) {
  return {shape, inputs.q, keys, inputs.kv, inputs.segments, inputs.max_segment_tokens};
}

// The library's order of sums depends on the sizes of the whole call.
bool may_ask_cudnn(const Stream& stream) { return stream.sum_order() == SumOrder::kFastest; }

// Whether the forward has gone to cuDNN.
bool forward_by_cudnn(const AttentionShape& shape, const AttentionInputs& inputs, Tensor& out,
                      Tensor& lse, Stream& stream) {
  if (!may_ask_cudnn(stream)) {
    return false;
  }
  const Tensor keys = expanded_keys(shape, inputs, stream);
  const ExpandedAttention attention = expanded(shape, inputs, keys);
  if (!cudnn_supports(attention)) {
    return false;
  }
  cudnn_attention_forward(attention, out, lse, stream);
  return true;
}

void attention_forward_cuda(const AttentionShape& shape, const AttentionInputs& inputs, Tensor& out,
                            Tensor& lse, Stream& stream) {
  if (inputs.q.size(0) > 0 && !forward_by_cudnn(shape, inputs, out, lse, stream)) {
    tiled_attention_forward(shape, inputs, out, lse, stream);
  }
}

void attention_backward_cuda(const AttentionShape& shape, const AttentionSaved& saved,
                             const Tensor& dout, Tensor& dq, Tensor& dkv, Tensor& dlatent,
                             Stream& stream) {
  if (dq.size(0) == 0) {
    return;
  }
  const Tensor keys = expanded_keys(shape, saved.inputs, stream);
  Tensor dkeys = Tensor::empty(keys.shape(), keys.dtype(), stream);
  const ExpandedAttention attention = expanded(shape, saved.inputs, keys);
  const ExpandedResult result{saved.out, saved.lse};
  const ExpandedGradients gradients{dq, dkeys, dkv};
  if (may_ask_cudnn(stream) && cudnn_supports_backward(attention)) {
    cudnn_attention_backward(attention, result, dout, gradients, stream);
  } else {
    tiled_attention_backward(attention, result, dout, gradients, stream);
  }
  split_gradients(shape, dkeys, dkv, dlatent, stream);
}

const KernelRegistration register_forward(attention_forward_slot, DeviceType::kCuda,
                                          attention_forward_cuda);
const KernelRegistration register_backward(attention_backward_slot, DeviceType::kCuda,
                                           attention_backward_cuda);

}  // namespace
}  // namespace fathom::kernels
