#include "kernels/balance_coefficients.h"

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const BalanceOptions&, const BalanceStatistics&, Tensor&, Tensor&,
                          Stream&)>
    balance_coefficients_slot{"balance_coefficients"};

void balance_coefficients(const BalanceOptions& options, const BalanceStatistics& statistics,
                          Tensor& coefficient, Tensor& losses, Stream& stream) {
  FATHOM_CHECK(
      options.sequence_length >= 1 && options.top_k >= 1 && options.max_groups_per_token >= 1,
      "balance of the top ", options.top_k, " of ", options.sequence_length, " tokens, ",
      options.max_groups_per_token, " groups a token");
  const TensorCheck check("balance_coefficients", stream);
  check.rank("coefficient", coefficient, 2);
  const Shape per_expert = coefficient.shape();
  check.dtype_and_device("coefficient", coefficient, DType::kFloat32);
  check.shape("unbiased_counts", statistics.unbiased_counts, per_expert, DType::kInt64);
  check.shape("score_sums", statistics.score_sums, per_expert, DType::kInt64);
  check.shape("selected_counts", statistics.selected_counts, per_expert, DType::kInt64);
  const Tensor& groups = statistics.group_token_counts;
  check.rank("group_token_counts", groups, 2);
  check.shape("group_token_counts", groups, {per_expert[0], groups.size(1)}, DType::kInt64);
  FATHOM_CHECK(groups.size(1) >= 1 && per_expert[1] % groups.size(1) == 0, per_expert[1],
               " experts in ", groups.size(1), " groups");
  check.shape("losses", losses, {per_expert[0]}, DType::kInt64);
  balance_coefficients_slot(stream, options, statistics, coefficient, losses);
}

}  // namespace fathom::kernels
