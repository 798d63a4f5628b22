#include "kernels/cuda/head_tiles.cuh"
#include "kernels/cuda/paged_tiles.cuh"
#include "kernels/packed_matmul.h"
#include "kernels/paged_attention.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

PageLayout layout_of(const AttentionShape& shape) {
  return {.num_heads = shape.num_heads,
          .key_size = shape.nope_size,
          .rope_size = shape.rope_size,
          .value_size = shape.value_size,
          .value_stride = static_cast<int>(padded_to_panels(shape.value_size))};
}

void keep_in_pages_cuda(const AttentionShape& shape, const Tensor& kv, const Tensor& latent,
                        const PagedSequences& sequences, Tensor& cache, Stream& stream) {
  with_activation_type(kv.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    keep(token_rows<T>(shape, kv, latent), sequences, kv.size(0), layout_of(shape), cache, stream);
  });
}

void paged_attention_forward_cuda(const AttentionShape& shape, const Tensor& q,
                                  const PagedSequences& sequences, const Tensor& cache, Tensor& out,
                                  Stream& stream) {
  with_activation_type(q.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Spans spans = spans_of(sequences, q.size(0), cache);
    const PageKeys<T> keys{device_data<T>(cache), cache.size(1), spans, layout_of(shape)};
    const PagedInputs<T> inputs = head_tiles<T>(shape, q, keys, spans);
    if (fits_packs<T>(shape.nope_size, {q.raw(), cache.raw()}) &&
        fits_packs<T>(shape.rope_size, {}) && fits_packs<T>(shape.value_size, {})) {
      attend<T, kPackSize<T>>(inputs, sequences, out, stream);
    } else {
      attend<T, 1>(inputs, sequences, out, stream);
    }
  });
}

const KernelRegistration register_keep(keep_in_pages_slot, DeviceType::kCuda, keep_in_pages_cuda);
const KernelRegistration register_forward(paged_attention_forward_slot, DeviceType::kCuda,
                                          paged_attention_forward_cuda);

}  // namespace
}  // namespace fathom::kernels
