#include "kernels/router.h"

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const RouterOptions&, const Tensor&, const Tensor&, Tensor&, Tensor&,
                          Tensor&, Stream&)>
    router_forward_slot{"router_forward"};
constinit KernelSlot<void(const RouterOptions&, const Tensor&, const Tensor&, const Tensor&,
                          const Tensor&, Tensor&, Stream&)>
    router_backward_slot{"router_backward"};
constinit KernelSlot<void(const Tensor&, Tensor&, Stream&)> count_experts_slot{"count_experts"};
constinit KernelSlot<void(const RouterOptions&, const Tensor&, const Tensor&, Tensor&, Tensor&,
                          Stream&)>
    balance_statistics_slot{"balance_statistics"};
constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Tensor&, Stream&)>
    selection_statistics_slot{"selection_statistics"};
constinit KernelSlot<void(const RouterOptions&, const Tensor&, const Tensor&, const Tensor&,
                          Tensor&, Stream&)>
    balance_backward_slot{"balance_backward"};

namespace {

void check_options(const RouterOptions& options) {
  FATHOM_CHECK(
      options.num_experts >= 1 && options.top_k >= 1 && options.top_k <= options.num_experts,
      "top ", options.top_k, " of ", options.num_experts, " experts");
  FATHOM_CHECK(options.num_groups >= 1 && options.num_experts % options.num_groups == 0,
               options.num_experts, " experts in ", options.num_groups, " groups");
  const int group_size = options.num_experts / options.num_groups;
  FATHOM_CHECK(options.num_kept_groups >= 1 && options.num_kept_groups <= options.num_groups &&
                   options.top_k <= options.num_kept_groups * group_size,
               "top ", options.top_k, " of ", options.num_kept_groups, " groups of ", group_size,
               " out of ", options.num_groups);
}

// per_token [num_tokens, num_experts], sequence_ids [num_tokens], per_sequence [num_sequences,
// num_experts].
void check_balance(const TensorCheck& check, const RouterOptions& options, const Tensor& per_token,
                   const Tensor& sequence_ids, const Tensor& per_sequence, DType dtype) {
  check_options(options);
  check.rank("sequence_ids", sequence_ids, 1);
  check.dtype_and_device("sequence_ids", sequence_ids, DType::kInt32);
  check.shape("scores", per_token, Shape{sequence_ids.size(0), options.num_experts});
  check.rank("per sequence", per_sequence, 2);
  check.shape("per sequence", per_sequence, Shape{per_sequence.size(0), options.num_experts},
              dtype);
}

}  // namespace

void router_forward(const RouterOptions& options, const Tensor& logits, const Tensor& bias,
                    Tensor& scores, Tensor& expert_ids, Tensor& gates, Stream& stream) {
  check_options(options);
  const TensorCheck check("router_forward", stream);
  check.rank("logits", logits, 2);
  const std::int64_t num_tokens = logits.size(0);
  check.shape("logits", logits, Shape{num_tokens, options.num_experts});
  check.shape("bias", bias, Shape{options.num_experts});
  check.shape("scores", scores, logits.shape());
  check.shape("expert_ids", expert_ids, Shape{num_tokens, options.top_k}, DType::kInt32);
  check.shape("gates", gates, Shape{num_tokens, options.top_k});
  FATHOM_CHECK(options.first_token >= 0, options.first_token);
  router_forward_slot(stream, options, logits, bias, scores, expert_ids, gates);
}

void router_backward(const RouterOptions& options, const Tensor& scores, const Tensor& expert_ids,
                     const Tensor& d_gates, const Tensor& d_scores, Tensor& d_logits,
                     Stream& stream) {
  check_options(options);
  const TensorCheck check("router_backward", stream);
  check.rank("scores", scores, 2);
  const std::int64_t num_tokens = scores.size(0);
  check.shape("scores", scores, Shape{num_tokens, options.num_experts});
  check.shape("expert_ids", expert_ids, Shape{num_tokens, options.top_k}, DType::kInt32);
  check.shape("d_gates", d_gates, Shape{num_tokens, options.top_k});
  check.shape("d_scores", d_scores, scores.shape());
  check.shape("d_logits", d_logits, scores.shape());
  router_backward_slot(stream, options, scores, expert_ids, d_gates, d_scores, d_logits);
}

void count_experts(const Tensor& expert_ids, Tensor& counts, Stream& stream) {
  const TensorCheck check("count_experts", stream);
  check.dtype_and_device("expert_ids", expert_ids, DType::kInt32);
  check.dtype_and_device("counts", counts, DType::kInt64);
  const std::int64_t num_units = counts.shape().rank() == 2 ? counts.size(1) : 1;
  FATHOM_CHECK((counts.shape().rank() == 1 || counts.shape().rank() == 2) && num_units > 0 &&
                   expert_ids.size(0) % num_units == 0,
               "counts ", counts.shape(), " of ", expert_ids.size(0), " tokens");
  count_experts_slot(stream, expert_ids, counts);
}

void balance_statistics(const RouterOptions& options, const Tensor& scores,
                        const Tensor& sequence_ids, Tensor& selected_counts, Tensor& score_sums,
                        Stream& stream) {
  const TensorCheck check("balance_statistics", stream);
  check_balance(check, options, scores, sequence_ids, score_sums, DType::kInt64);
  check.shape("selected_counts", selected_counts, score_sums.shape(), DType::kInt64);
  balance_statistics_slot(stream, options, scores, sequence_ids, selected_counts, score_sums);
}

void selection_statistics(const Tensor& expert_ids, const Tensor& sequence_ids,
                          Tensor& selected_counts, Tensor& group_token_counts, Stream& stream) {
  const TensorCheck check("selection_statistics", stream);
  check.rank("expert_ids", expert_ids, 2);
  check.dtype_and_device("expert_ids", expert_ids, DType::kInt32);
  check.shape("sequence_ids", sequence_ids, Shape{expert_ids.size(0)}, DType::kInt32);
  check.rank("selected_counts", selected_counts, 2);
  check.dtype_and_device("selected_counts", selected_counts, DType::kInt64);
  check.rank("group_token_counts", group_token_counts, 2);
  check.shape("group_token_counts", group_token_counts,
              Shape{selected_counts.size(0), group_token_counts.size(1)}, DType::kInt64);
  FATHOM_CHECK(
      group_token_counts.size(1) >= 1 && selected_counts.size(1) % group_token_counts.size(1) == 0,
      selected_counts.size(1), " experts in ", group_token_counts.size(1), " groups");
  selection_statistics_slot(stream, expert_ids, sequence_ids, selected_counts, group_token_counts);
}

void balance_backward(const RouterOptions& options, const Tensor& scores,
                      const Tensor& sequence_ids, const Tensor& coefficient, Tensor& d_scores,
                      Stream& stream) {
  const TensorCheck check("balance_backward", stream);
  check_balance(check, options, scores, sequence_ids, coefficient, DType::kFloat32);
  check.shape("d_scores", d_scores, scores.shape());
  balance_backward_slot(stream, options, scores, sequence_ids, coefficient, d_scores);
}

}  // namespace fathom::kernels
