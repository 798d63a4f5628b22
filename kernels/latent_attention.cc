#include "kernels/latent_attention.h"

#include "kernels/check_tensor.h"
#include "kernels/packed_matmul.h"

namespace fathom::kernels {

constinit KernelSlot<void(const AttentionShape&, const Tensor&, Tensor&, Tensor&, Stream&)>
    pack_absorbed_slot("pack_absorbed");
constinit KernelSlot<void(const AttentionShape&, const Tensor&, const PagedSequences&, Tensor&,
                          Stream&)>
    keep_latents_in_pages_slot("keep_latents_in_pages");
constinit KernelSlot<void(const AttentionShape&, const AbsorbedQueries&, const PagedSequences&,
                          const Tensor&, Tensor&, Stream&)>
    latent_attention_forward_slot("latent_attention_forward");

namespace {

// Returns the dtype of the activations, which is the cache's.
DType check_cache(const TensorCheck& check, const AttentionShape& shape, const Tensor& cache) {
  check_shape(shape);
  check.rank("cache", cache, 2);
  const DType dtype = check.activation_dtype("cache", cache);
  check.shape("cache", cache, latent_pages_shape(shape, cache.size(0)), dtype);
  return dtype;
}

}  // namespace

Shape latent_pages_shape(const AttentionShape& shape, std::int64_t num_pages) {
  return {num_pages, kPageTokens * (padded_to_panels(shape.rope_column) + shape.rope_size)};
}

void pack_absorbed(const AttentionShape& shape, const Tensor& kv_b, Tensor& key, Tensor& value,
                   Stream& stream) {
  const TensorCheck check("pack_absorbed", stream);
  check_shape(shape);
  const std::int64_t heads = shape.num_heads;
  const std::int64_t rank = shape.rope_column;
  const DType dtype = check.activation_dtype("kv_b", kv_b);
  check.shape("kv_b", kv_b, {heads * (shape.nope_size + shape.value_size), rank}, dtype);
  check.shape("key", key, packed_shape(Shape{heads, rank, shape.nope_size}), dtype);
  check.shape("value", value, packed_shape(Shape{heads, shape.value_size, rank}), dtype);
  pack_absorbed_slot(stream, shape, kv_b, key, value);
}

void keep_latents_in_pages(const AttentionShape& shape, const Tensor& latent,
                           const PagedSequences& sequences, Tensor& cache, Stream& stream) {
  const TensorCheck check("keep_latents_in_pages", stream);
  const DType dtype = check_cache(check, shape, cache);
  check_sequences(check, sequences);
  check.rank("latent", latent, 2);
  check.rows("latent", latent, latent.size(0), shape.rope_column + shape.rope_size, dtype);
  keep_latents_in_pages_slot(stream, shape, latent, sequences, cache);
}

void latent_attention_forward(const AttentionShape& shape, const AbsorbedQueries& queries,
                              const PagedSequences& sequences, const Tensor& cache, Tensor& out,
                              Stream& stream) {
  const TensorCheck check("latent_attention_forward", stream);
  const DType dtype = check_cache(check, shape, cache);
  check_sequences(check, sequences);
  check.rank("q", queries.q, 2);
  const std::int64_t rows = queries.q.size(0);
  const std::int64_t heads = shape.num_heads;
  check.shape("q", queries.q, {rows, heads * (shape.nope_size + shape.rope_size)}, dtype);
  check.shape("absorbed", queries.absorbed, {rows, heads * shape.rope_column}, dtype);
  check.shape("out", out, {rows, heads * shape.rope_column}, dtype);
  latent_attention_forward_slot(stream, shape, queries, sequences, cache, out);
}

}  // namespace fathom::kernels
