#include "kernels/cuda/head_tiles.cuh"
#include "kernels/cuda/tiled_attention.h"

namespace fathom::kernels::cuda {
namespace {

// Queries of a tile in units of 16: as many as fit beside the largest keys and values.
template <class T>
inline constexpr int kRowTiles = sizeof(T) == sizeof(__nv_bfloat16) ? 4 : 2;

// Keys in rows of kv and latent.
template <class T>
struct SegmentKeys {
  static constexpr bool kAreContiguous = false;
  TokenRows<T> from;

  __device__ KeyRows<T> rows(const int4& span, int first_key, int num_keys, int head) const {
    const std::int64_t row = span.x + first_key;
    const std::int64_t first = row * from.row_stride + head * from.head_stride;
    return {{from.keys + first, from.row_stride, num_keys},
            {from.rope + row * from.rope_stride, from.rope_stride, num_keys},
            {from.values + first, from.row_stride, num_keys}};
  }
};

template <class T>
AttentionTiles<T, SegmentKeys<T>> tiles_of(const AttentionShape& shape,
                                           const AttentionInputs& inputs, const Spans& spans) {
  const SegmentKeys<T> keys{token_rows<T>(shape, inputs.kv, inputs.latent)};
  return head_tiles<T>(shape, inputs.q, keys, spans);
}

template <class T>
bool rows_fit_packs(const AttentionShape& shape, const AttentionInputs& inputs) {
  return fits_packs<T>(shape.nope_size, {inputs.q.raw(), inputs.kv.raw(), inputs.latent.raw()}) &&
         fits_packs<T>(shape.rope_size, {}) && fits_packs<T>(shape.value_size, {}) &&
         fits_packs<T>(shape.rope_column, {}) && fits_packs<T>(inputs.latent.size(1), {});
}

template <class T, int N>
void launch_forward(const AttentionShape& shape, const AttentionInputs& inputs,
                    const AttentionResult<T>& result, Stream& stream) {
  const SegmentTiles segments(inputs.segments, inputs.q.size(0), kRowTiles<T> * Tile::kRows,
                              stream);
  const auto tiles = tiles_of<T>(shape, inputs, segments.spans);
  const TileMemory<T, kRowTiles<T>> memory(SharedMemory(nullptr), tiles.sizes, tiles.value_size);
  launch(attend_tiles<T, N, kRowTiles<T>, SegmentKeys<T>>,
         {segments.plan.num_tiles * shape.num_heads, kAttentionThreads, memory.size}, stream, tiles,
         segments.plan.data(), result);
}

}  // namespace

void tiled_attention_forward(const AttentionShape& shape, const AttentionInputs& inputs,
                             Tensor& out, Tensor& lse, Stream& stream) {
  const int key_size = shape.nope_size + shape.rope_size;
  FATHOM_CHECK(key_size <= kMaxTiledSize && shape.value_size <= kMaxTiledSize,
               "attention on CUDA has heads of up to ", kMaxTiledSize, " numbers, not ", key_size,
               " and ", shape.value_size);
  with_activation_type(inputs.q.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const AttentionResult<T> result{device_data<T>(out), device_data<float>(lse), {}};
    if (rows_fit_packs<T>(shape, inputs)) {
      launch_forward<T, kPackSize<T>>(shape, inputs, result, stream);
    } else {
      launch_forward<T, 1>(shape, inputs, result, stream);
    }
  });
}

}  // namespace fathom::kernels::cuda
