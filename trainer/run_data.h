#pragma once

#include <memory>
#include <string>

#include "configs/run_config.h"
#include "data/evaluation_data.h"
#include "data/loader.h"
#include "data/tokenizer.h"
#include "data/training_data.h"
#include "parallel/comm/heartbeat.h"
#include "parallel/mesh.h"
#include "trainer/device_batch.h"
#include "trainer/train_step.h"

namespace fathom::trainer {

struct EvaluationResult {
  double loss = 0.0;           // nats a token
  double bits_per_byte = 0.0;  // of the text's UTF-8 bytes
  std::int64_t num_tokens = 0;
};

// The training stream that a resolved config describes.
data::TrainingDataOptions make_training_data_options(const config::RunConfig& config);

// What a run reads: training stream, held-out text and tokenizer, opened and checked against each
// other and the model.
class RunData {
 public:
  // Throws ConfigError and IoError naming file and field. Looks at files only; no other rank is
  // involved.
  explicit RunData(const config::RunConfig& config);
  ~RunData();
  RunData(RunData&&) noexcept;

  const std::string& tokenizer_hash() const;
  const data::Tokenizer* tokenizer() const noexcept { return tokenizer_.get(); }  // may be null
  bool has_validation() const noexcept { return validation_ != nullptr; }

  // Starts reading for the ranks of a mesh; once.
  void begin(std::int64_t data_rank, std::int64_t num_data_ranks);
  // This data rank's micro-batches of a step; the step after it is read meanwhile. Valid until the
  // next call.
  const std::vector<data::MicroBatch>& read(const data::StepSamples& step, std::int64_t next_count);

  // Mean loss over the held-out text, or its first config.evaluation.num_sequences sequences.
  // Collective over the mesh.
  EvaluationResult evaluate(TrainStep& step, const parallel::Mesh& mesh, Stream& stream,
                            parallel::Heartbeat& heartbeat) const;

 private:
  std::int64_t read_held_out(std::int64_t first, std::int64_t end,
                             std::vector<data::MicroBatch>& batches) const;

  std::int64_t micro_batch_size_;
  std::int64_t num_evaluation_sequences_;
  bool prefetches_;
  std::unique_ptr<data::TrainingData> training_;
  std::unique_ptr<data::EvaluationData> validation_;
  std::unique_ptr<data::Tokenizer> tokenizer_;
  std::unique_ptr<data::BatchLoader> loader_;
  std::unique_ptr<data::Prefetcher> prefetcher_;
  std::vector<data::MicroBatch> batches_;
};

}  // namespace fathom::trainer
