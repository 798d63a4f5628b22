#include "trainer/loss_totals.h"

#include "parallel/comm/sums.h"

namespace fathom::trainer {

model::LossSums empty_loss_sums(const model::ModelOptions& options) {
  return model::LossSums(options.mtp_depth + 1);
}

LossTotals gather_loss_totals(model::LossSums& sums, const parallel::Mesh& mesh, Stream& stream) {
  sums.read(stream);
  std::vector<ExactSum> mine = sums.token_losses();
  mine.push_back(sums.balance_loss());
  LossTotals totals;
  totals.token_losses = parallel::sum_exactly(mine, mesh.world());
  totals.balance_loss = totals.token_losses.back();
  totals.token_losses.pop_back();
  return totals;
}

}  // namespace fathom::trainer
