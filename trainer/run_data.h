#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "configs/run_config.h"
#include "data/batch_source.h"
#include "data/loader.h"
#include "data/tokenizer.h"
#include "parallel/comm/heartbeat.h"
#include "parallel/mesh.h"
#include "trainer/device_batch.h"
#include "trainer/evaluate_step.h"
#include "trainer/generation/text.h"

namespace fathom::trainer {

struct EvaluationResult {
  double loss = 0.0;           // nats a token
  double bits_per_byte = 0.0;  // of the text's UTF-8 bytes
  std::int64_t num_tokens = 0;
};

// What a run is trained and evaluated on, opened and checked: token shards (token_data.h),
// conversations (chat_data.h).
struct RunSources {
  std::unique_ptr<data::Tokenizer> tokenizer;  // may be null
  std::string tokenizer_hash;
  std::unique_ptr<data::BatchSource> training;
  std::unique_ptr<data::HeldOutSource> held_out;  // null: no evaluation
  // A text of evaluation.prompts as the model reads it; needs the tokenizer.
  std::function<std::vector<std::int32_t>(const std::string& text)> encode_prompt;
  CompletionEnd completion_end;       // of what the model writes behind it
  std::vector<std::string> contents;  // of each of data.train: a hash
  std::vector<std::string> notes;     // lines for the user
};

// Reads a run's sources for its ranks.
class RunData {
 public:
  RunData(const config::RunConfig& config, RunSources sources);
  ~RunData();
  RunData(RunData&&) noexcept;

  const std::string& tokenizer_hash() const noexcept { return sources_.tokenizer_hash; }
  const data::Tokenizer* tokenizer() const noexcept { return sources_.tokenizer.get(); }
  const std::vector<std::string>& contents() const noexcept { return sources_.contents; }
  const std::vector<std::string>& notes() const noexcept { return sources_.notes; }
  bool has_validation() const noexcept { return sources_.held_out != nullptr; }
  std::vector<std::int32_t> encode_prompt(const std::string& text) const {
    return sources_.encode_prompt(text);
  }
  const CompletionEnd& completion_end() const noexcept { return sources_.completion_end; }

  // Starts reading for the ranks of a mesh; once.
  void begin(std::int64_t data_rank, std::int64_t num_data_ranks);
  // This data rank's micro-batches of a step; the step after it is read meanwhile. Valid until the
  // next call.
  const std::vector<data::MicroBatch>& read(const data::StepSamples& step, std::int64_t next_count);

  // Mean loss over the held-out targets, or those of its first config.evaluation.num_sequences
  // sequences. Collective over the mesh.
  EvaluationResult evaluate(EvaluateStep& step, const parallel::Mesh& mesh, Stream& stream,
                            parallel::Heartbeat& heartbeat) const;

 private:
  std::int64_t read_held_out(std::int64_t first, std::int64_t end,
                             std::vector<data::MicroBatch>& batches) const;

  std::int64_t micro_batch_size_;
  std::int64_t num_evaluation_sequences_;
  bool prefetches_;
  RunSources sources_;
  std::unique_ptr<data::BatchLoader> loader_;
  std::unique_ptr<data::Prefetcher> prefetcher_;
  std::vector<data::MicroBatch> batches_;
};

}  // namespace fathom::trainer
