#include "model/balance_loss.h"

#include "kernels/balance_coefficients.h"
#include "kernels/elementwise.h"

namespace fathom::model {
namespace {

// The same on all tensor ranks.
kernels::BalanceStatistics gather_statistics(const MoeOptions& options,
                                             const kernels::RouterOptions& router,
                                             const Tensor& scores, const Tensor& expert_ids,
                                             const Context& context) {
  Stream& stream = context.stream;
  const Shape per_expert{context.batch.num_sequences, options.num_experts};
  kernels::BalanceStatistics statistics;
  statistics.unbiased_counts = Tensor::zeros(per_expert, DType::kInt64, stream);
  statistics.score_sums = Tensor::zeros(per_expert, DType::kInt64, stream);
  statistics.selected_counts = Tensor::zeros(per_expert, DType::kInt64, stream);
  statistics.group_token_counts = Tensor::zeros(
      Shape{context.batch.num_sequences, options.num_device_groups}, DType::kInt64, stream);
  const Tensor sequence_ids = context.local(context.batch.sequence_ids);
  kernels::balance_statistics(router, scores, sequence_ids, statistics.unbiased_counts,
                              statistics.score_sums, stream);
  kernels::selection_statistics(expert_ids, sequence_ids, statistics.selected_counts,
                                statistics.group_token_counts, stream);
  parallel::Communicator& tensor = context.mesh.tensor();
  for (Tensor* sums : {&statistics.unbiased_counts, &statistics.score_sums,
                       &statistics.selected_counts, &statistics.group_token_counts}) {
    tensor.all_reduce(*sums, parallel::ReduceOp::kSum, stream).wait();
  }
  return statistics;
}

kernels::BalanceOptions balance_options(const MoeOptions& options, const MicroBatch& batch) {
  kernels::BalanceOptions balance;
  balance.sequence_length = batch.sequence_length;
  balance.top_k = options.top_k;
  balance.max_groups_per_token = options.max_device_groups_per_token;
  balance.sequence_coefficient = options.sequence_balance_coefficient;
  balance.expert_coefficient = options.expert_balance_coefficient;
  balance.device_coefficient = options.device_balance_coefficient;
  balance.communication_coefficient = options.communication_balance_coefficient;
  balance.scale = batch.balance_scale;
  return balance;
}

}  // namespace

BalanceLoss::BalanceLoss(const MoeOptions& options) : options_(options) {}

bool BalanceLoss::is_on() const noexcept {
  return options_.sequence_balance_coefficient != 0.0F ||
         options_.expert_balance_coefficient != 0.0F ||
         options_.device_balance_coefficient != 0.0F ||
         options_.communication_balance_coefficient != 0.0F;
}

void BalanceLoss::forward(const kernels::RouterOptions& router, const Tensor& scores,
                          const Tensor& expert_ids, Saved& saved, const Context& context) const {
  if (!is_on() || context.pass != Pass::kTrain) {
    return;
  }
  const kernels::BalanceStatistics statistics =
      gather_statistics(options_, router, scores, expert_ids, context);
  Stream& stream = context.stream;
  saved.coefficient = Tensor::empty(statistics.score_sums.shape(), DType::kFloat32, stream);
  Tensor losses = Tensor::empty(Shape{context.batch.num_sequences}, DType::kInt64, stream);
  kernels::balance_coefficients(balance_options(options_, context.batch), statistics,
                                saved.coefficient, losses, stream);
  // All tensor ranks hold the same sums: each counts its share of the sequences.
  const parallel::Communicator& tensor = context.mesh.tensor();
  context.losses->add_balance_losses(losses, tensor.rank(), tensor.world_size());
}

void BalanceLoss::backward(const kernels::RouterOptions& router, const Tensor& scores,
                           const Saved& saved, Tensor& d_scores, const Context& context) const {
  kernels::fill(d_scores, 0.0F, context.stream);
  if (saved.coefficient.defined()) {
    kernels::balance_backward(router, scores, context.local(context.batch.sequence_ids),
                              saved.coefficient, d_scores, context.stream);
  }
}

}  // namespace fathom::model
