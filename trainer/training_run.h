#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "configs/run_config.h"
#include "core/stream.h"
#include "model/pipelined_model.h"
#include "optim/lr_schedule.h"
#include "optim/optimizer.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/heartbeat.h"
#include "parallel/mesh.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/reporter.h"
#include "trainer/run_data.h"
#include "trainer/run_progress.h"
#include "trainer/step_trace.h"
#include "trainer/stop_request.h"
#include "trainer/train_step.h"

namespace fathom::trainer {

struct TrainingEnvironment {
  parallel::Communicator& world;
  parallel::Heartbeat& heartbeat;
  Reporter::Print print;  // a line for the user; called on rank 0
};

// Where a run starts: the step of one of its checkpoints, or nothing.
using ResumeStep = std::optional<std::int64_t>;

enum class RunEnd {
  kDone,
  kStopped,  // on request, with a checkpoint: a resume continues
  kGivenUp,  // too many steps in a row were not finite
};

// A run from its start to its end, on one rank: pretraining or supervised fine-tuning, as `data`
// is token shards or conversations. Construction allocates weights,
// gradients and optimizer states; everything is collective over the world.
class TrainingRun {
 public:
  // `config` is resolved and valid; `data` was opened before anything was allocated.
  TrainingRun(const config::RunConfig& config, RunData data,
              const TrainingEnvironment& environment);
  ~TrainingRun();

  // Loads the checkpoint, or the weights of train.init_from, or draws initial weights.
  void start(ResumeStep resume);
  RunEnd run();

 private:
  struct Agreement {
    bool stops = false;
    std::int64_t peak_bytes = 0;
  };
  RunEnd end_run(RunEnd end, const std::string& reason);
  StepOptions step_options(std::int64_t step_tokens) const;
  double mtp_loss_weight() const;
  void take_step();
  Agreement agree();
  void evaluate();
  void sample();  // continues evaluation.prompts
  void save();
  std::string explain_failed_save(const std::string& cause) const;
  void write_skipped_batch(std::int64_t first_sample, std::int64_t num_samples) const;
  // One line for each resume that changes the bits of the run.
  void tell_changes(const CheckpointIdentity& stored) const;
  void visit_state(parallel::StateVisitor& visitor);
  bool is_due(std::int64_t interval) const {
    return interval > 0 && progress_.step % interval == 0;
  }

  std::unique_ptr<const config::RunConfig> config_;
  TrainingEnvironment environment_;
  RunData data_;
  Stream stream_;
  parallel::Mesh mesh_;
  model::PipelinedModel model_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  TrainStep train_step_;
  optim::LearningRateSchedule learning_rate_;
  optim::BatchRamp batch_ramp_;
  CheckpointOptions checkpoint_options_;
  CheckpointIdentity identity_;
  StopRequest stop_request_;
  std::unique_ptr<Reporter> reporter_;  // rank 0
  std::unique_ptr<StepTrace> trace_;    // where train.trace asks for one
  RunProgress progress_;
  std::int64_t last_saved_step_ = -1;
  Agreement agreement_;
};

}  // namespace fathom::trainer
