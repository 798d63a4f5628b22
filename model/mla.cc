#include "model/mla.h"

#include <utility>

#include "core/error.h"
#include "kernels/elementwise.h"
#include "kernels/latent_attention.h"
#include "kernels/packed_matmul.h"
#include "kernels/paged_attention.h"
#include "parallel/tensor_parallel.h"

namespace fathom::model {

using kernels::Accumulate;
using kernels::RopeDirection;
using parallel::column_cut_parameter;
using parallel::gather_token_rows;
using parallel::row_cut_parameter;
using parallel::sum_and_scatter_token_rows;
using parallel::whole_parameter;

Mla::Mla(const std::string& prefix, const ModelOptions& options, const Tensor& cos_sin,
         const parallel::Mesh& mesh)
    : options_(options), cos_sin_(cos_sin), has_q_lora_(options.q_lora_rank > 0) {
  const std::int64_t hidden = options.hidden_size;
  const std::int64_t heads = options.num_attention_heads;
  parallel::Communicator& tensor = mesh.tensor();
  if (heads % tensor.world_size() != 0) {
    throw ConfigError(concat("mesh.tensor (", tensor.world_size(),
                             ") does not divide model.num_attention_heads (", heads, ")"));
  }
  shape_.num_heads = static_cast<int>(heads / tensor.world_size());
  shape_.nope_size = options.qk_nope_head_dim;
  shape_.rope_size = options.qk_rope_head_dim;
  shape_.value_size = options.v_head_dim;
  shape_.rope_column = options.kv_lora_rank;
  shape_.scale = options.softmax_scale();
  const int chunks = options.numerics.chunks_per_rank(tensor);
  shape_.num_chunks = chunks;
  shape_.is_deterministic = options.numerics.is_deterministic;
  partial_dtype_ = options.numerics.partial_dtype(tensor);
  query_columns_ = {shape_.num_heads, options.qk_head_dim(), options.qk_nope_head_dim,
                    options.qk_rope_head_dim};
  key_columns_ = {1, 0, options.kv_lora_rank, options.qk_rope_head_dim};

  const Shape query_shape{heads * options.qk_head_dim(),
                          has_q_lora_ ? options.q_lora_rank : options.hidden_size};
  if (has_q_lora_) {
    q_a_ = Linear(whole_parameter(prefix + "q_a_proj.weight", Shape{options.q_lora_rank, hidden},
                                  mesh.plane()));
    q_norm_ = RmsNorm(prefix + "q_a_layernorm.weight", options.q_lora_rank,
                      options.rms_norm_epsilon, mesh.plane());
  }
  q_b_ = Linear(row_cut_parameter(prefix + (has_q_lora_ ? "q_b_proj.weight" : "q_proj.weight"),
                                  query_shape, tensor, mesh.data()),
                {.out = chunks});
  kv_a_ = Linear(whole_parameter(prefix + "kv_a_proj_with_mqa.weight",
                                 Shape{options.kv_lora_rank + options.qk_rope_head_dim, hidden},
                                 mesh.plane()));
  kv_norm_ = RmsNorm(prefix + "kv_a_layernorm.weight", options.kv_lora_rank,
                     options.rms_norm_epsilon, mesh.plane());
  kv_b_ = Linear(row_cut_parameter(prefix + "kv_b_proj.weight",
                                   Shape{heads * (options.qk_nope_head_dim + options.v_head_dim),
                                         options.kv_lora_rank},
                                   tensor, mesh.data()),
                 {.out = chunks});
  o_ = Linear(column_cut_parameter(prefix + "o_proj.weight",
                                   Shape{hidden, heads * options.v_head_dim}, tensor, mesh.data()),
              {.in = chunks});
}

Tensor Mla::rotated_queries(const Tensor& q_input, const Context& context) const {
  Tensor q = q_b_.forward(q_input, context.stream);
  kernels::rope(query_columns_, RopeDirection::kForward, cos_sin_, context.batch.positions, q, q,
                context.stream);
  return q;
}

Tensor Mla::queries(const Tensor& x, Saved& saved, const Context& context) const {
  parallel::Communicator& tensor = context.mesh.tensor();
  if (!has_q_lora_) {
    return rotated_queries(gather_token_rows(tensor, x, context.stream), context);
  }
  saved.q_latent_raw = q_a_.forward(x, context.stream);
  const Tensor normed = q_norm_.forward(saved.q_latent_raw, saved.q_inv_rms, context.stream);
  saved.q_latent = gather_token_rows(tensor, normed, context.stream);
  return rotated_queries(saved.q_latent, context);
}

Tensor Mla::forward(const Tensor& x, Saved& saved, const Context& context) const {
  Stream& stream = context.stream;
  parallel::Communicator& tensor = context.mesh.tensor();
  saved.x = x;
  saved.q = queries(x, saved, context);

  saved.kv_raw = kv_a_.forward(x, stream);
  Tensor latent = Tensor::empty(saved.kv_raw.shape(), x.dtype(), stream);
  kv_norm_.forward(saved.kv_raw, latent, saved.kv_inv_rms, stream);
  kernels::rope(key_columns_, RopeDirection::kForward, cos_sin_,
                context.local(context.batch.positions), saved.kv_raw, latent, stream);
  saved.latent = gather_token_rows(tensor, latent, stream);
  saved.out =
      Tensor::empty(Shape{saved.latent.size(0), std::int64_t{shape_.num_heads} * shape_.value_size},
                    x.dtype(), stream);
  if (context.cache != nullptr) {
    attend_to_cache(saved, context);
  } else {
    attend(saved, context);
  }
  if (context.recompute.mla_up_projections) {
    saved.q = Tensor();
    saved.kv = Tensor();
  }
  return sum_and_scatter_token_rows(tensor, o_.forward(saved.out, partial_dtype_, stream),
                                    x.dtype(), stream);
}

AttentionCache Mla::make_cache(CacheForm form, std::int64_t num_pages, Stream& stream) const {
  AttentionCache cache;
  cache.form = form;
  const auto empty = [&](const Shape& shape) {
    return Tensor::empty(shape, kv_b_.weight().value().dtype(), stream);
  };
  if (form == CacheForm::kExpanded) {
    cache.pages = empty(kernels::attention_pages_shape(shape_, num_pages));
    return cache;
  }
  const std::int64_t heads = shape_.num_heads;
  const std::int64_t rank = options_.kv_lora_rank;
  cache.pages = empty(kernels::latent_pages_shape(shape_, num_pages));
  cache.packed_key = empty(kernels::packed_shape(Shape{heads, rank, shape_.nope_size}));
  cache.packed_value = empty(kernels::packed_shape(Shape{heads, shape_.value_size, rank}));
  kernels::pack_absorbed(shape_, kv_b_.weight().value(), cache.packed_key, cache.packed_value,
                         stream);
  return cache;
}

void Mla::attend(Saved& saved, const Context& context) const {
  Stream& stream = context.stream;
  saved.kv = kv_b_.forward(saved.latent, stream);
  saved.lse = Tensor::empty(Shape{saved.latent.size(0), shape_.num_heads}, DType::kFloat32, stream);
  kernels::attention_forward(
      shape_,
      {saved.q, saved.kv, saved.latent, context.batch.segments, context.batch.max_segment_tokens},
      saved.out, saved.lse, stream);
}

void Mla::attend_to_cache(Saved& saved, const Context& context) const {
  Stream& stream = context.stream;
  AttentionCache& cache = *context.cache;
  const kernels::PagedSequences sequences{context.batch.spans, context.batch.pages,
                                          context.batch.page_copies};
  if (cache.form == CacheForm::kExpanded) {
    saved.kv = kv_b_.forward(saved.latent, stream);
    kernels::keep_in_pages(shape_, saved.kv, saved.latent, sequences, cache.pages, stream);
    kernels::paged_attention_forward(shape_, saved.q, sequences, cache.pages, saved.out, stream);
    return;
  }
  const Shape per_head{saved.latent.size(0),
                       std::int64_t{shape_.num_heads} * options_.kv_lora_rank};
  Tensor absorbed = Tensor::empty(per_head, saved.latent.dtype(), stream);
  Tensor latents = Tensor::empty(per_head, saved.latent.dtype(), stream);
  kernels::keep_latents_in_pages(shape_, saved.latent, sequences, cache.pages, stream);
  kernels::packed_head_matmul_forward(saved.q, cache.packed_key, absorbed, stream);
  kernels::latent_attention_forward(shape_, {saved.q, absorbed}, sequences, cache.pages, latents,
                                    stream);
  kernels::packed_head_matmul_forward(latents, cache.packed_value, saved.out, stream);
}

Tensor Mla::backward_input(const Tensor& dy, Saved& saved, const Context& context) {
  Stream& stream = context.stream;
  parallel::Communicator& tensor = context.mesh.tensor();
  if (!saved.q.defined()) {
    saved.q = rotated_queries(
        has_q_lora_ ? saved.q_latent : gather_token_rows(tensor, saved.x, stream), context);
    saved.kv = kv_b_.forward(saved.latent, stream);
  }
  saved.dy = gather_token_rows(tensor, dy, stream);
  const Tensor dout = o_.backward_input(saved.dy, stream);
  saved.dq = Tensor::empty(saved.q.shape(), saved.q.dtype(), stream);
  saved.dkv = Tensor::empty(saved.kv.shape(), saved.kv.dtype(), stream);
  Tensor dlatent = Tensor::empty(saved.latent.shape(), partial_dtype_, stream);
  kernels::attention_backward(
      shape_,
      {{saved.q, saved.kv, saved.latent, context.batch.segments, context.batch.max_segment_tokens},
       saved.out,
       saved.lse},
      dout, saved.dq, saved.dkv, dlatent, stream);
  saved.q = Tensor();
  saved.kv = Tensor();
  kernels::rope(query_columns_, RopeDirection::kInverse, cos_sin_, context.batch.positions,
                saved.dq, saved.dq, stream);
  Tensor dx = backward_queries(saved, context);
  backward_latent(saved, std::move(dlatent), dx, context);
  return dx;
}

// dq -> dL/dx through the query path.
Tensor Mla::backward_queries(Saved& saved, const Context& context) {
  Stream& stream = context.stream;
  Tensor d_input = sum_and_scatter_token_rows(context.mesh.tensor(),
                                              q_b_.backward_input(saved.dq, partial_dtype_, stream),
                                              saved.dq.dtype(), stream);
  if (!has_q_lora_) {
    return d_input;
  }
  saved.dq_latent_raw = q_norm_.backward(d_input, saved.q_latent_raw, saved.q_inv_rms, stream);
  saved.q_latent_raw = Tensor();
  return q_a_.backward_input(saved.dq_latent_raw, stream);
}

// dkv and the rope columns of dlatent -> added to dx through the key-value path.
void Mla::backward_latent(Saved& saved, Tensor dlatent, Tensor& dx, const Context& context) {
  Stream& stream = context.stream;
  kv_b_.backward_input(saved.dkv, dlatent, Accumulate::kOverwrite, stream);
  // Gradients of both parts are sums over the heads of all tensor ranks.
  dlatent = sum_and_scatter_token_rows(context.mesh.tensor(), dlatent, saved.dkv.dtype(), stream);
  saved.dkv_raw = Tensor::empty(saved.kv_raw.shape(), saved.kv_raw.dtype(), stream);
  kv_norm_.backward(dlatent, saved.kv_raw, saved.kv_inv_rms, saved.dkv_raw, stream);
  saved.kv_raw = Tensor();
  kernels::rope(key_columns_, RopeDirection::kInverse, cos_sin_,
                context.local(context.batch.positions), dlatent, saved.dkv_raw, stream);
  kv_a_.backward_input(saved.dkv_raw, dx, Accumulate::kAdd, stream);
}

void Mla::backward_weight(Saved& saved, const Context& context) {
  Stream& stream = context.stream;
  o_.backward_weight(saved.dy, saved.out, stream);
  kv_b_.backward_weight(saved.dkv, saved.latent, stream);
  kv_a_.backward_weight(saved.dkv_raw, saved.x, stream);
  if (has_q_lora_) {
    q_b_.backward_weight(saved.dq, saved.q_latent, stream);
    q_a_.backward_weight(saved.dq_latent_raw, saved.x, stream);
  } else {
    q_b_.backward_weight(saved.dq, gather_token_rows(context.mesh.tensor(), saved.x, stream),
                         stream);
  }
  saved = Saved();
}

void Mla::for_each_parameter(const parallel::VisitParameter& visit) {
  if (has_q_lora_) {
    visit(q_a_.weight());
    visit(q_norm_.gain());
  }
  visit(q_b_.weight());
  visit(kv_a_.weight());
  visit(kv_norm_.gain());
  visit(kv_b_.weight());
  visit(o_.weight());
}

}  // namespace fathom::model
