#include "trainer/loss_totals.h"

#include "core/host_copy.h"
#include "kernels/exact_sums.h"

namespace fathom::trainer {

model::LossSums empty_loss_sums(const model::ModelOptions& options) {
  return model::LossSums(options.mtp_depth + 1);
}

LossTotals to_loss_totals(const std::vector<std::int64_t>& totals) {
  LossTotals result;
  result.token_losses = kernels::exact_sum_values(totals);
  result.balance_loss = result.token_losses.back();
  result.token_losses.pop_back();
  return result;
}

LossTotals gather_loss_totals(model::LossSums sums, const parallel::Mesh& mesh, Stream& stream) {
  Tensor totals = sums.totals(stream);
  mesh.world().all_reduce(totals, parallel::ReduceOp::kSum, stream).wait();
  return to_loss_totals(to_host<std::int64_t>(totals, stream));
}

}  // namespace fathom::trainer
