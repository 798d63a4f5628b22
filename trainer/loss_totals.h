#pragma once

#include <cstdint>
#include <vector>

#include "model/context.h"
#include "model/options.h"
#include "parallel/mesh.h"

namespace fathom::trainer {

// Sums of losses over all ranks, each rounded once.
struct LossTotals {
  std::vector<double> token_losses;  // [depth] nats
  double balance_loss = 0.0;
};

model::LossSums empty_loss_sums(const model::ModelOptions& options);

// Of what LossSums::totals() has on the host.
LossTotals to_loss_totals(const std::vector<std::int64_t>& totals);

// Adds up what every rank counted, without rounding; waits for the device. Collective over the
// mesh; the same on every rank. Uses the sums up.
LossTotals gather_loss_totals(model::LossSums sums, const parallel::Mesh& mesh, Stream& stream);

}  // namespace fathom::trainer
