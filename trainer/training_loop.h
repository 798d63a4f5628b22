#pragma once

#include <array>
#include <chrono>
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
#include "trainer/evaluate_step.h"
#include "trainer/reporter.h"
#include "trainer/run_progress.h"
#include "trainer/step_trace.h"
#include "trainer/stop_request.h"
#include "trainer/stopwatch.h"
#include "trainer/train_step.h"
#include "trainer/training_task.h"

namespace fathom::trainer {

struct TrainingEnvironment {
  parallel::Communicator& world;  // of tensors on the device
  Device device;                  // that this rank computes on
  parallel::Heartbeat& heartbeat;
  Reporter::Print print;  // a line for the user; called on rank 0
  // From when train.time_limit counts.
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
};

// Where a run starts: the step of one of its checkpoints, or nothing.
using ResumeStep = std::optional<std::int64_t>;

enum class RunEnd {
  kDone,
  kStopped,  // on request, with a checkpoint: a resume continues
  kGivenUp,  // too many steps in a row were not finite
};

// A run from its start to its end, on one rank, whatever is learnt from: model and optimizer, the
// loop over steps, checkpoints, reports and the ways to end. Everything is collective over the
// world.
class TrainingLoop {
 public:
  // Allocates weights, gradients and optimizer states. `config` is resolved and valid.
  TrainingLoop(const config::RunConfig& config, const std::string& tokenizer_hash,
               const TrainingEnvironment& environment);
  ~TrainingLoop();
  TrainingLoop(const TrainingLoop&) = delete;
  TrainingLoop& operator=(const TrainingLoop&) = delete;

  // Loads the checkpoint, or the weights of train.init_from, or draws initial weights; then takes
  // the task's steps to the end of the run. `running` is called once between the two.
  RunEnd run(ResumeStep resume, TrainingTask& task, const std::function<void()>& running);

  // For tasks:
  const config::RunConfig& config() const noexcept { return *config_; }
  const TrainingEnvironment& environment() const noexcept { return environment_; }
  void begin_phase(const char* phase) const { environment_.heartbeat.begin_phase(phase); }
  Stream& stream() noexcept { return stream_; }
  parallel::Mesh& mesh() noexcept { return mesh_; }
  model::PipelinedModel& model() noexcept { return model_; }
  TrainStep& train_step() noexcept { return train_step_; }
  EvaluateStep& evaluate_step() noexcept { return evaluate_step_; }
  const RunProgress& progress() const noexcept { return progress_; }
  Reporter* reporter() noexcept { return reporter_.get(); }  // null but on rank 0

  // Of everything that the run would keep (state_hash.h). Collective.
  std::uint64_t state_hash();
  // Of an update in the current step, which takes step_tokens in all.
  StepOptions step_options(std::int64_t step_tokens) const;

  struct FinishedStep {
    const StepResult& result;
    std::int64_t num_tokens = 0;
    std::int64_t num_samples = 0;   // sequences, or prompts
    std::vector<Metric> more = {};  // beside what every step reports
    double learning_rate = 0.0;
    std::string shown = {};  // in place of the loss on the terminal; empty: the loss
    double seconds = 0.0;
  };
  // Counts the step and reports it.
  void finish_step(const FinishedStep& step);

 private:
  struct Agreement {
    bool stops = false;
    std::int64_t peak_bytes = 0;
  };
  void start(ResumeStep resume);
  RunEnd take_steps();
  bool owes_evaluation();
  RunEnd end_run(RunEnd end, const std::string& reason);
  double model_flops_utilization(const FinishedStep& step) const;
  Agreement agree();
  void save();
  std::string explain_failed_save(const std::string& cause) const;
  void write_skipped_batch(std::int64_t first_sample, std::int64_t num_samples) const;
  // Where the config names other weights to start from than the run began with.
  void tell_unused_weights(const CheckpointIdentity& stored) const;
  // Where a failure costs everything since the start.
  void tell_rare_checkpoints() const;
  // Where the weights of train.init_from know other positions than this run gives them.
  void tell_other_positions(const CheckpointIdentity& stored) const;
  // One line for each resume that changes the bits of the run.
  void tell_changes(const CheckpointIdentity& stored) const;
  void find_next_sample(const CheckpointIdentity& stored);
  void visit_state(parallel::StateVisitor& visitor);       // where it is
  void visit_host_state(parallel::StateVisitor& visitor);  // in host memory
  bool is_due(std::int64_t interval) const {
    return interval > 0 && progress_.step % interval == 0;
  }

  std::unique_ptr<const config::RunConfig> config_;
  TrainingEnvironment environment_;
  Stream stream_;
  parallel::Mesh mesh_;
  model::PipelinedModel model_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  TrainStep train_step_;
  EvaluateStep evaluate_step_;
  optim::LearningRateSchedule learning_rate_;
  CheckpointOptions checkpoint_options_;
  CheckpointIdentity identity_;
  StopRequest stop_request_;
  TrainingTask* task_ = nullptr;
  std::unique_ptr<Reporter> reporter_;  // rank 0
  std::unique_ptr<StepTrace> trace_;    // where train.trace asks for one
  RunProgress progress_;
  std::int64_t last_saved_step_ = -1;
  Agreement agreement_;
};

}  // namespace fathom::trainer
