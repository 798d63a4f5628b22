#pragma once

#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/balance_coefficients.h"
#include "kernels/cross_entropy.h"
#include "kernels/element_hashes.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/exact_sums.h"
#include "kernels/fill_normal.h"
#include "kernels/gradient_norm.h"
#include "kernels/gradient_sum.h"
#include "kernels/grouped_matmul.h"
#include "kernels/latent_attention.h"
#include "kernels/matmul.h"
#include "kernels/packed_matmul.h"
#include "kernels/paged_attention.h"
#include "kernels/permute.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/router.h"
#include "kernels/sample.h"
#include "kernels/swiglu.h"

namespace fathom::kernels {

// Calls visit(slot) for the slot of every operation; a test of slots_test.cc holds the list against
// the headers.
template <class Visit>
void for_each_slot(const Visit& visit) {
  const auto each = [&](const auto&... slots) { (visit(slots), ...); };
  each(adamw_step_slot);
  each(attention_forward_slot, attention_backward_slot);
  each(balance_coefficients_slot);
  each(cross_entropy_row_max_slot, cross_entropy_exp_sum_slot, cross_entropy_loss_slot,
       cross_entropy_backward_slot);
  each(add_element_hashes_slot);
  each(add_slot, add_in_place_slot, scale_slot, fill_slot, copy_slot, convert_slot,
       copy_columns_slot);
  each(add_exactly_slot);
  each(embedding_forward_slot, embedding_backward_slot, round_gradient_slot);
  each(fill_normal_slot);
  each(sum_of_squares_slot, update_scale_slot);
  each(grouped_matmul_forward_slot, grouped_matmul_backward_input_slot,
       grouped_matmul_backward_weight_slot);
  each(pack_absorbed_slot, keep_latents_in_pages_slot, latent_attention_forward_slot);
  each(matmul_forward_slot, matmul_backward_input_slot, matmul_backward_weight_slot);
  each(packed_head_matmul_forward_slot);
  each(keep_in_pages_slot, paged_attention_forward_slot);
  each(sort_slots_slot, arrange_rows_slot, permute_forward_slot, permute_backward_slot,
       combine_forward_slot, combine_backward_slot, gather_rows_slot);
  each(rms_norm_forward_slot, rms_norm_backward_slot, add_rms_norm_forward_slot);
  each(rope_slot);
  each(router_forward_slot, router_backward_slot, count_experts_slot, balance_statistics_slot,
       selection_statistics_slot, balance_backward_slot);
  each(sample_tokens_slot);
  each(swiglu_forward_slot, swiglu_backward_slot);
}

}  // namespace fathom::kernels
