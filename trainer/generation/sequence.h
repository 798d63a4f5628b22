#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/sample.h"
#include "model/attention_cache.h"

namespace fathom::trainer {

enum class FinishReason {
  kStop,    // a token or a string that ends a completion, and with which this one ends
  kLength,  // as many tokens as were asked for, or as the model can come to draw
};

struct Completion {
  std::vector<std::int32_t> tokens;
  // Nats, one a token: log softmax(logits / temperature), of the whole vocabulary and before top_k
  // and top_p; at temperature 0 as at 1. In EXACT minus the loss that the training forward gives.
  std::vector<float> logprobs;
  FinishReason finish = FinishReason::kLength;
};

struct Prompt {
  std::string id;                    // what the random numbers of its completions are keyed by,
  std::int64_t sample = 0;           // with the number of the completion among those of the prompt
  std::vector<std::int32_t> tokens;  // at least one
  // Tokens and log-probabilities drawn before, by a run that was interrupted: the completion begins
  // with them and becomes what it would have been. `finish` is not looked at.
  Completion begun = {};
};

struct GenerationOptions {
  // Must be kExpanded where log-probabilities are to have the bits of the training forward.
  model::CacheForm cache = model::CacheForm::kExpanded;
  kernels::SamplingOptions sampling;
  std::uint64_t seed = 0;
  std::string purpose = "sample";    // keys the random numbers beside seed, prompt and position
  std::int64_t max_new_tokens = 64;  // of each completion
  std::vector<std::int32_t> end_tokens = {};  // each of which ends a completion
  // Whether a completion ends here, of its tokens so far; asked after each token, on every rank.
  // Empty: never. text.h makes one of strings.
  std::function<bool(std::span<const std::int32_t> tokens)> is_stop;
  std::int64_t num_allowed = 0;        // token ids from there on are never drawn; 0: all may be
  std::int64_t max_sequences = 32;     // at a time, on each data rank
  std::int64_t max_step_tokens = 512;  // that a data rank takes through the model at a time
  // Tokens whose keys and values a data rank keeps; rounded down to pages of 64. 0: enough for
  // max_sequences of the longest sequence that there can be. With fewer, sequences may have to wait
  // and to be fed again.
  std::int64_t cache_tokens = 0;
  // On CUDA, steps of one token a sequence are recorded and launched again (decode_graphs.h). The
  // same bits either way.
  bool uses_graphs = true;
};

}  // namespace fathom::trainer
