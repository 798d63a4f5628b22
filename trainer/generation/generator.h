#pragma once

#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "model/pipelined_model.h"
#include "parallel/mesh.h"
#include "parallel/pipeline/schedule.h"
#include "trainer/generation/decode_graphs.h"
#include "trainer/generation/drawn_rows.h"
#include "trainer/generation/generation_batch.h"
#include "trainer/generation/scheduler.h"
#include "trainer/generation/sequence.h"

namespace fathom::trainer {

// What is told while it happens, on every rank; each may be empty.
struct GenerationEvents {
  // For each token as it is drawn: which prompt, its completion so far, and whether that is all.
  std::function<void(std::size_t prompt, const Completion& completion, bool is_finished)> token;
  // After each step, counted from 1: all completions so far, which a later call can take for begun.
  std::function<void(std::int64_t step, const std::vector<Completion>& so_far)> step;
};

// Continues prompts with the model's own layers, in the layout and on the weights that train. A
// completion depends on weights, options and its own prompt alone: not on the layout, nor on what
// else is generated beside it (EXACT; in FAST within rounding). Leaves no trace in the model.
class Generator {
 public:
  // All outlive the generator.
  Generator(model::PipelinedModel& model, const parallel::Mesh& mesh, Stream& stream);

  // The completions of all prompts, in their order, on every rank. Collective over the mesh, with
  // the same arguments on all ranks. The last token of a completion takes no position: a prompt
  // that fills all positions of the model gets one token, a longer one none but those begun.
  // Allocates the cache that the options ask for, and drops it. Holds the weights twice while it
  // runs (model/packed_weights.h). Throws ConfigError when the cache is too small (scheduler.h),
  // and when the weights give no finite logits.
  std::vector<Completion> generate(std::span<const Prompt> prompts,
                                   const GenerationOptions& options,
                                   const GenerationEvents& events = {});

  // Of this rank in the last call.
  const DecodeCounts& decode_counts() const noexcept { return decode_counts_; }

 private:
  struct Session;
  // Of one data rank: feeds of each micro-batch.
  using MicroBatchFeeds = std::vector<std::vector<Feed>>;

  bool can_record() const;
  MicroBatchFeeds deal(std::span<const Feed> feeds) const;
  std::vector<Drawn> run_step(const MicroBatchFeeds& feeds, Session& session);
  std::vector<Drawn> decode(GenerationInputs& inputs, Session& session);
  std::vector<Tensor> forward(std::span<const GenerationBatch> batches,
                              model::GenerationCache& cache);
  void draw(const GenerationBatch& batch, const GenerationOptions& options, Tensor& logits,
            DrawnRows& drawn);
  std::vector<Drawn> exchange(const std::vector<Drawn>& mine, std::span<const std::size_t> counts);

  model::PipelinedModel* model_;
  const parallel::Mesh* mesh_;
  Stream* stream_;
  DecodeCounts decode_counts_;
  parallel::Schedule schedule_;  // a micro-batch for each pipeline rank, so that none is idle
};

}  // namespace fathom::trainer
