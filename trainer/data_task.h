#pragma once

#include "optim/lr_schedule.h"
#include "trainer/run_data.h"
#include "trainer/training_loop.h"

namespace fathom::trainer {

// Pretraining or supervised fine-tuning, as `data` is token shards or conversations: each step
// takes the next sequences of the data.
class DataTask final : public TrainingTask {
 public:
  // `data` was opened before anything was allocated. Both outlive the task.
  DataTask(TrainingLoop& loop, RunData& data);

  std::vector<std::string> data_contents() const override { return data_->contents(); }
  // Sequences of another length begin where as many tokens have been seen, rounded up.
  std::int64_t next_sample(std::int64_t samples, const config::RunConfig& stored) const override;
  void begin() override;
  void take_step() override;
  void evaluate() override;

 private:
  void sample();  // continues evaluation.prompts

  TrainingLoop* loop_;
  RunData* data_;
  optim::BatchRamp batch_ramp_;
};

}  // namespace fathom::trainer
