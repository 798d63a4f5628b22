#pragma once

#include <cstdint>
#include <vector>

#include "core/stream.h"
#include "data/micro_batch.h"
#include "model/micro_batch.h"
#include "parallel/mesh.h"
#include "trainer/train_step.h"

namespace fathom::trainer {

// One data rank's part of a global batch, on the device, with the global denominators.
struct DeviceBatch {
  std::vector<model::MicroBatch> micro_batches;
  TokenCounts counts;  // valid tokens of the global batch, per prediction depth
};

struct GlobalBatch {
  std::int64_t first_sample = 0;   // global index of its first sequence
  std::int64_t num_sequences = 0;  // over all data ranks
  double mtp_loss_weight = 0.0;    // of the mean over the MTP modules; the main loss has weight 1
};

// Denominators come first: the valid tokens are counted over the data ranks before any gradient,
// and every loss weight is divided by them. Collective over mesh.data().
DeviceBatch make_device_batch(const std::vector<data::MicroBatch>& host, const GlobalBatch& global,
                              const parallel::Mesh& mesh, Stream& stream);

}  // namespace fathom::trainer
