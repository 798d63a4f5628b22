#include "kernels/paged_attention.h"

#include "core/error.h"
#include "kernels/check_tensor.h"
#include "kernels/packed_matmul.h"

namespace fathom::kernels {

constinit KernelSlot<void(const AttentionShape&, const Tensor&, const Tensor&,
                          const PagedSequences&, Tensor&, Stream&)>
    keep_in_pages_slot("keep_in_pages");
constinit KernelSlot<void(const AttentionShape&, const Tensor&, const PagedSequences&,
                          const Tensor&, Tensor&, Stream&)>
    paged_attention_forward_slot("paged_attention_forward");

void check_sequences(const TensorCheck& check, const PagedSequences& sequences) {
  check.rank("spans", sequences.spans, 2);
  check.shape("spans", sequences.spans, {sequences.spans.size(0), 4}, DType::kInt32);
  check.rank("pages", sequences.pages, 1);
  check.dtype_and_device("pages", sequences.pages, DType::kInt32);
  check.rank("copies", sequences.copies, 2);
  check.shape("copies", sequences.copies, {sequences.copies.size(0), 2}, DType::kInt32);
}

namespace {

// Returns the dtype of the activations, which is the cache's.
DType check_cache(const TensorCheck& check, const AttentionShape& shape, const Tensor& cache) {
  check_shape(shape);
  check.rank("cache", cache, 2);
  const DType dtype = check.activation_dtype("cache", cache);
  check.shape("cache", cache, attention_pages_shape(shape, cache.size(0)), dtype);
  return dtype;
}

}  // namespace

Shape attention_pages_shape(const AttentionShape& shape, std::int64_t num_pages) {
  const std::int64_t head_size = shape.nope_size + padded_to_panels(shape.value_size);
  return {num_pages, kPageTokens * (shape.num_heads * head_size + shape.rope_size)};
}

void keep_in_pages(const AttentionShape& shape, const Tensor& kv, const Tensor& latent,
                   const PagedSequences& sequences, Tensor& cache, Stream& stream) {
  const TensorCheck check("keep_in_pages", stream);
  const DType dtype = check_cache(check, shape, cache);
  check_sequences(check, sequences);
  check.rank("kv", kv, 2);
  check.shape("kv", kv,
              {kv.size(0), std::int64_t{shape.num_heads} * (shape.nope_size + shape.value_size)},
              dtype);
  check.rows("latent", latent, kv.size(0), shape.rope_column + shape.rope_size, dtype);
  keep_in_pages_slot(stream, shape, kv, latent, sequences, cache);
}

void paged_attention_forward(const AttentionShape& shape, const Tensor& q,
                             const PagedSequences& sequences, const Tensor& cache, Tensor& out,
                             Stream& stream) {
  const TensorCheck check("paged_attention_forward", stream);
  const DType dtype = check_cache(check, shape, cache);
  check_sequences(check, sequences);
  check.rank("q", q, 2);
  const std::int64_t num_heads = shape.num_heads;
  check.shape("q", q, {q.size(0), num_heads * (shape.nope_size + shape.rope_size)}, dtype);
  check.shape("out", out, {q.size(0), num_heads * shape.value_size}, dtype);
  paged_attention_forward_slot(stream, shape, q, sequences, cache, out);
}

}  // namespace fathom::kernels
