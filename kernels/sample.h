#pragma once

#include <array>
#include <cstdint>

#include "core/rng.h"
#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// Which tokens may follow, and how likely each is: softmax(logits / temperature), cut to the top_k
// likeliest tokens, of these to the shortest list whose share of their probability reaches top_p.
// Lists go by probability, then by id; at least one token stays.
struct SamplingOptions {
  float temperature = 1.0F;  // 0: the largest logit, of equal ones the lowest id
  int top_k = 0;             // 0: all
  float top_p = 1.0F;        // in (0, 1]
};

// What the random numbers of a row are for, as a row of `keys` below: the random source of the
// sequence, and the position of the token to come.
std::array<std::int64_t, 2> sample_key(const RandomSource& random, std::int64_t position);

// tokens[i] = argmax over the tokens v that may follow of logits[i, v] / temperature + g(i, v), a
// draw from their distribution (Gumbel-max; Gumbel 1954), with g = -log(-log(u)), u the uniform
// number position * vocab_size + v of the row's key. Of equal sums the lowest id. What is drawn
// depends on the row and its key alone.
//   keys         [num_rows, 2] int64, sample_key of each; not read at temperature 0
//   num_allowed  ids from there on are never drawn
//   logits       [num_rows, vocab_size] float32, in-out: divided by the temperature (multiplied by
//                its inverse in float32), unless that is 0
//   tokens       [num_rows] int32, out
// Sums of probabilities in double. Asynchronous on `stream`. Throws ConfigError for a row with NaN
// or +inf or with nothing above -inf, InternalError on a mismatch. On CUDA, where nobody waits for
// the logits, such a row gets the token -1 for the caller to find; sums of probabilities are of
// multiples of 2^-40, and exp and log may differ by a rounding.
void sample_tokens(const SamplingOptions& options, const Tensor& keys, std::int64_t num_allowed,
                   Tensor& logits, Tensor& tokens, Stream& stream);

// logprobs[i] = log softmax(logits[i])[tokens[i]], nats: by the kernels of the cross-entropy, so
// that it is minus the loss of the training forward, bit for bit.
//   logits      [num_rows, vocab_size] float32; used up
//   tokens      [num_rows] int32
//   num_chunks  of the vocabulary over all tensor ranks; see kernels/cross_entropy.h
//   logprobs    [num_rows] float32, out
void token_logprobs(Tensor& logits, const Tensor& tokens, int num_chunks, Tensor& logprobs,
                    Stream& stream);

// For backends; arguments as above, the logits divided already.
extern constinit KernelSlot<void(const SamplingOptions&, const Tensor&, std::int64_t, const Tensor&,
                                 Tensor&, Stream&)>
    sample_tokens_slot;

}  // namespace fathom::kernels
