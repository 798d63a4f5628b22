#include "trainer/loss_totals.h"

#include "parallel/comm/sums.h"

namespace fathom::trainer {

model::LossSums empty_loss_sums(const model::ModelOptions& options) {
  model::LossSums sums;
  sums.token_losses.resize(static_cast<std::size_t>(options.mtp_depth) + 1);
  return sums;
}

LossTotals gather_loss_totals(const model::LossSums& sums, const parallel::Mesh& mesh) {
  std::vector<ExactSum> mine = sums.token_losses;
  mine.push_back(sums.balance_loss);
  LossTotals totals;
  totals.token_losses = parallel::sum_exactly(mine, mesh.world());
  totals.balance_loss = totals.token_losses.back();
  totals.token_losses.pop_back();
  return totals;
}

}  // namespace fathom::trainer
