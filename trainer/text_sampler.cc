#include "trainer/text_sampler.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "core/rng.h"

namespace fathom::trainer {
namespace {

// The tokens so far as one sequence, filled up to a length that the tensor axis divides; what comes
// after a token does not change it.
model::MicroBatch prompt_batch(const std::vector<std::int32_t>& tokens, int multiple,
                               Stream& stream) {
  const auto length = static_cast<std::int64_t>(tokens.size());
  model::MicroBatch batch;
  batch.num_sequences = 1;
  batch.sequence_length = (length + multiple - 1) / multiple * multiple;
  const Shape per_token{batch.sequence_length};
  batch.tokens = Tensor::zeros(per_token, DType::kInt32, stream);
  std::copy(tokens.begin(), tokens.end(), batch.tokens.mutable_data<std::int32_t>());
  batch.positions = Tensor::empty(per_token, DType::kInt32, stream);
  for (std::int64_t i = 0; i < batch.sequence_length; ++i) {
    batch.positions.mutable_data<std::int32_t>()[i] = static_cast<std::int32_t>(i);
  }
  batch.sequence_ids = Tensor::zeros(per_token, DType::kInt32, stream);
  batch.segments = Tensor::zeros(Shape{2}, DType::kInt32, stream);
  batch.segments.mutable_data<std::int32_t>()[1] = static_cast<std::int32_t>(batch.sequence_length);
  return batch;
}

// Gumbel-max: the largest logit / temperature - log(-log(u)) is a draw from the softmax.
std::int32_t choose(std::span<const float> logits, const RandomSource& random,
                    std::int64_t position, double temperature) {
  std::int32_t best = 0;
  double best_score = -std::numeric_limits<double>::infinity();
  for (std::size_t id = 0; id < logits.size(); ++id) {
    double score = static_cast<double>(logits[id]);
    if (temperature > 0.0) {
      const auto index = static_cast<std::uint64_t>(position) * logits.size() + id;
      score = score / temperature - std::log(-std::log(random.uniform(index)));
    }
    if (score > best_score) {
      best_score = score;
      best = static_cast<std::int32_t>(id);
    }
  }
  return best;
}

}  // namespace

std::string sample_text(TrainStep& step, const data::Tokenizer& tokenizer,
                        std::vector<std::int32_t> prompt, const TextSamplingOptions& options,
                        const parallel::Mesh& mesh, Stream& stream) {
  const RandomSource random(options.seed, "sample of " + tokenizer.decode(prompt));
  std::vector<std::int32_t> tokens = std::move(prompt);
  if (tokens.empty()) {
    tokens.push_back(std::max(0, tokenizer.special_tokens().eos));
  }
  parallel::Communicator& pipeline = mesh.pipeline();
  std::vector<std::int64_t> from_each(static_cast<std::size_t>(pipeline.world_size()));
  for (std::int64_t i = 0; i < options.num_tokens; ++i) {
    const auto position = static_cast<std::int64_t>(tokens.size());
    if (position >= options.max_position) {
      break;
    }
    Tensor row = Tensor::empty(Shape{1}, DType::kInt32, stream);
    row.mutable_data<std::int32_t>()[0] = static_cast<std::int32_t>(position - 1);
    const Tensor logits =
        step.logits(prompt_batch(tokens, mesh.tensor().world_size(), stream), row);
    std::int64_t chosen = 0;
    if (logits.defined()) {
      // Rows of the model's vocabulary that the tokenizer does not have are padding.
      const auto known = std::min<std::size_t>(static_cast<std::size_t>(tokenizer.vocab_size()),
                                               logits.values<float>().size());
      chosen = choose(logits.values<float>().first(known), random, position, options.temperature);
    }
    pipeline.all_gather_integers(std::span(&chosen, 1), from_each);
    tokens.push_back(static_cast<std::int32_t>(from_each.back()));
    if (tokens.back() == tokenizer.special_tokens().eos) {
      break;
    }
  }
  return tokenizer.decode(tokens);
}

}  // namespace fathom::trainer
