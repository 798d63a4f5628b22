#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/pipelined_model.h"
#include "parallel/mesh.h"

namespace fathom::trainer {

// A text whose end is scored given its beginning.
struct ScoredText {
  std::vector<std::int32_t> tokens;
  std::size_t first_scored = 1;  // in 1 .. tokens.size() - 1
};

struct LikelihoodOptions {
  // Tokens of a row of a batch, in which texts lie isolated side by side; grows to the longest.
  std::int64_t sequence_length = 0;
  std::int64_t micro_batch_size = 0;       // rows
  std::function<void()> progress = [] {};  // called on every rank, after each batch
};

// The log-likelihood of each text, in nats:
//   sum over i >= first_scored of log P(tokens[i] | tokens[0 .. i))
// by the training forward: minus the losses of the tokens, float32 each, summed up in double in
// their order. A function of weights and text alone in EXACT, whatever the layout, the row and what
// else is scored. The same on every rank; collective over the mesh, with the same arguments on all
// ranks. Throws ConfigError when the weights give a loss that is not finite; InternalError for a
// text without a scored token.
std::vector<double> log_likelihoods(std::span<const ScoredText> texts, model::PipelinedModel& model,
                                    const parallel::Mesh& mesh, Stream& stream,
                                    const LikelihoodOptions& options);

}  // namespace fathom::trainer
