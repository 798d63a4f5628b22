#pragma once

#include <string>

#include "core/tensor.h"
#include "kernels/attention.h"
#include "kernels/rope.h"
#include "model/context.h"
#include "model/linear.h"
#include "model/options.h"
#include "model/rms_norm.h"
#include "parallel/parameter.h"

namespace fathom::model {

// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1; V3, arXiv:2412.19437,
// section 2.1.1):
//   c_q = RMSNorm(W_qa h),  [q_nope | q_R] = W_qb c_q    (W_q h when q_lora_rank is 0)
//   [c | k_R] = W_kva h,  c_kv = RMSNorm(c),  [k_nope | v] = W_kvb c_kv
//   out = W_o attention([q_nope | q_R], [k_nope | k_R], v)
// with q_R and k_R rotated, and k_R shared by all heads.
// Tensor parallel: latents are computed on this rank's tokens, gathered while they are small, and
// the heads are cut. With a context's cache, new tokens are kept there and see all that is kept of
// their sequences; one of latents takes W_kvb into queries and outputs instead of expanding them.
class Mla {
 public:
  struct Saved {
    Tensor x;  // [local tokens, hidden]; may be taken away and given back by the caller
    Tensor q_latent_raw, q_inv_rms;  // W_qa h on local tokens
    Tensor q_latent;                 // c_q of all tokens
    Tensor kv_raw, kv_inv_rms;       // W_kva h on local tokens
    Tensor latent;                   // [all tokens, kv_lora + rope]: c_kv | rotated k_R
    Tensor q, kv, out, lse;          // all tokens, local heads
    // Left by backward_input for backward_weight.
    Tensor dy, dq, dkv, dq_latent_raw, dkv_raw;
  };

  Mla(const std::string& prefix, const ModelOptions& options, const Tensor& cos_sin,
      const parallel::Mesh& mesh);

  // x [local tokens, hidden] -> the same shape, without the residual.
  Tensor forward(const Tensor& x, Saved& saved, const Context& context) const;
  // Adds to the gradients of the latents' gains too.
  Tensor backward_input(const Tensor& dy, Saved& saved, const Context& context);
  void backward_weight(Saved& saved, const Context& context);
  void for_each_parameter(const parallel::VisitParameter& visit);
  // For Context::cache; its pages are uninitialized.
  AttentionCache make_cache(CacheForm form, std::int64_t num_pages, Stream& stream) const;

 private:
  Tensor queries(const Tensor& x, Saved& saved, const Context& context) const;
  void attend(Saved& saved, const Context& context) const;
  void attend_to_cache(Saved& saved, const Context& context) const;
  Tensor rotated_queries(const Tensor& q_input, const Context& context) const;
  Tensor backward_queries(Saved& saved, const Context& context);
  void backward_latent(Saved& saved, Tensor dlatent, Tensor& dx, const Context& context);

  ModelOptions options_;
  kernels::AttentionShape shape_;
  kernels::RopeColumns query_columns_;
  kernels::RopeColumns key_columns_;
  Tensor cos_sin_;
  bool has_q_lora_ = false;
  DType partial_dtype_ = DType::kFloat32;
  Linear q_a_, q_b_, kv_a_, kv_b_, o_;  // q_b_ is q_proj when there is no q_a_
  RmsNorm q_norm_, kv_norm_;
};

}  // namespace fathom::model
