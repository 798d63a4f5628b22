#include "trainer/loss_totals.h"

#include <cstdint>
#include <span>

namespace fathom::trainer {

model::LossSums empty_loss_sums(const model::ModelOptions& options) {
  model::LossSums sums;
  sums.token_losses.resize(static_cast<std::size_t>(options.mtp_depth) + 1);
  return sums;
}

LossTotals gather_loss_totals(const model::LossSums& sums, const parallel::Mesh& mesh) {
  std::vector<std::int64_t> mine;
  const auto append = [&](const ExactSum& sum) {
    const auto integers = sum.to_integers();
    mine.insert(mine.end(), integers.begin(), integers.end());
  };
  for (const ExactSum& sum : sums.token_losses) {
    append(sum);
  }
  append(sums.balance_loss);
  const auto ranks = static_cast<std::size_t>(mesh.world().world_size());
  std::vector<std::int64_t> all(mine.size() * ranks);
  mesh.world().all_gather_integers(mine, all);
  std::vector<std::int64_t> total(mine.size(), 0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    total[i % mine.size()] += all[i];
  }
  const std::size_t width = mine.size() / (sums.token_losses.size() + 1);
  const auto value = [&](std::size_t index) {
    return ExactSum::from_integers(std::span(total).subspan(index * width, width)).value();
  };
  LossTotals totals;
  for (std::size_t depth = 0; depth < sums.token_losses.size(); ++depth) {
    totals.token_losses.push_back(value(depth));
  }
  totals.balance_loss = value(sums.token_losses.size());
  return totals;
}

}  // namespace fathom::trainer
