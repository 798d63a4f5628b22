#pragma once

#include <span>

#include "core/stream.h"
#include "model/micro_batch.h"
#include "trainer/generation/scheduler.h"

namespace fathom::trainer {

// The tokens of `feeds`, which the scheduler knows, as a micro-batch of Pass::kGenerate: its
// logit_rows are the last tokens of the feeds that are whole, in their order. Filled up to a
// multiple of `num_tensor_ranks`, at least that, with rows of no sequence.
model::MicroBatch make_generation_batch(std::span<const Feed> feeds, const Scheduler& scheduler,
                                        int num_tensor_ranks, Stream& stream);

}  // namespace fathom::trainer
