#include <algorithm>

#include "kernels/cuda/paged_tiles.cuh"
#include "kernels/latent_attention.h"
#include "kernels/packed_matmul.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;

// packed [num_heads, padded outer, inner] of the matrices w_h [outer, inner] that begin head_stride
// elements after one another; zero beyond their rows. A thread an element.
template <class T>
struct HeadMatrices {
  const T* data;
  int head_stride;
  int outer_stride;
  int inner_stride;
  int num_heads;
  int outer;
  int inner;

  __host__ __device__ int head_elements() const {
    return static_cast<int>(padded_to_panels(outer)) * inner;
  }
};
template <class T>
__global__ void __launch_bounds__(kThreads) pack_rows(HeadMatrices<T> from, T* packed) {
  const int head = static_cast<int>(blockIdx.x) % from.num_heads;
  const int element =
      static_cast<int>(blockIdx.x) / from.num_heads * kThreads + static_cast<int>(threadIdx.x);
  if (element >= from.head_elements()) {
    return;
  }
  const int inner = element % from.inner;
  const int outer = element / from.inner;
  packed[std::int64_t{head} * from.head_elements() + element] =
      outer < from.outer ? from.data[std::int64_t{head} * from.head_stride +
                                     outer * from.outer_stride + inner * from.inner_stride]
                         : from_float<T>(0.0F);
}

template <class T>
void launch_pack(const HeadMatrices<T>& from, Tensor& packed, Stream& stream) {
  launch(pack_rows<T>, {from.num_heads * blocks_for(from.head_elements(), kThreads), kThreads},
         stream, from, device_data<T>(packed));
}

void pack_absorbed_cuda(const AttentionShape& shape, const Tensor& kv_b, Tensor& key, Tensor& value,
                        Stream& stream) {
  const int rank = shape.rope_column;
  const int head_stride = (shape.nope_size + shape.value_size) * rank;
  with_activation_type(kv_b.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* const w = device_data<T>(kv_b);
    launch_pack<T>({w, head_stride, 1, rank, shape.num_heads, rank, shape.nope_size}, key, stream);
    launch_pack<T>({w + std::int64_t{shape.nope_size} * rank, head_stride, rank, 1, shape.num_heads,
                    shape.value_size, rank},
                   value, stream);
  });
}

PageLayout layout_of(const AttentionShape& shape) {
  return {.num_heads = 1,
          .key_size = shape.rope_column,
          .rope_size = shape.rope_size,
          .value_size = 0,
          .value_stride = 0};
}

void keep_latents_in_pages_cuda(const AttentionShape& shape, const Tensor& latent,
                                const PagedSequences& sequences, Tensor& cache, Stream& stream) {
  with_activation_type(latent.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int row = static_cast<int>(latent.size(1));
    const TokenRows<T> rows{.keys = device_data<T>(latent),
                            .values = device_data<T>(latent),
                            .rope = device_data<T>(latent) + shape.rope_column,
                            .row_stride = row,
                            .head_stride = 0,
                            .rope_stride = row};
    keep(rows, sequences, latent.size(0), layout_of(shape), cache, stream);
  });
}

void latent_attention_forward_cuda(const AttentionShape& shape, const AbsorbedQueries& queries,
                                   const PagedSequences& sequences, const Tensor& cache,
                                   Tensor& out, Stream& stream) {
  with_activation_type(out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int rank = shape.rope_column;
    const Spans spans = spans_of(sequences, out.size(0), cache);
    const PagedInputs<T> inputs{
        .queries = device_data<T>(queries.absorbed),
        .rope = device_data<T>(queries.q) + shape.nope_size,
        .query_row = shape.num_heads * rank,
        .query_head = rank,
        .rope_row = static_cast<int>(queries.q.size(1)),
        .rope_head = shape.nope_size + shape.rope_size,
        .keys = {device_data<T>(cache), cache.size(1), spans, layout_of(shape)},
        .sizes = {rank, shape.rope_size, 0},
        .spans = spans.spans,
        .num_rows = spans.num_rows,
        .num_heads = shape.num_heads,
        .heads_of_tile = std::min(shape.num_heads, kQueriesOfTile),
        .value_size = rank,
        .num_splits = 1,
        .scale = shape.scale};
    if (fits_packs<T>(rank, {queries.q.raw(), queries.absorbed.raw(), cache.raw()}) &&
        fits_packs<T>(shape.nope_size, {}) && fits_packs<T>(shape.rope_size, {})) {
      attend<T, kPackSize<T>>(inputs, sequences, out, stream);
    } else {
      attend<T, 1>(inputs, sequences, out, stream);
    }
  });
}

const KernelRegistration register_pack(pack_absorbed_slot, DeviceType::kCuda, pack_absorbed_cuda);
const KernelRegistration register_keep(keep_latents_in_pages_slot, DeviceType::kCuda,
                                       keep_latents_in_pages_cuda);
const KernelRegistration register_forward(latent_attention_forward_slot, DeviceType::kCuda,
                                          latent_attention_forward_cuda);

}  // namespace
}  // namespace fathom::kernels
