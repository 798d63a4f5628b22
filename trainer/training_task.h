#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/run_config.h"
#include "parallel/state_visitor.h"

namespace fathom::trainer {

// What a run does in its steps: learning from data (data_task.h) or from its own samples
// (rl/grpo_task.h). All functions are collective over the world.
class TrainingTask {
 public:
  virtual ~TrainingTask() = default;
  // A hash of what each of data.train holds, for checkpoints to keep; nothing where none is used.
  virtual std::vector<std::string> data_contents() const { return {}; }
  // The next global sample index of a resume, where the run that wrote the checkpoint, of the
  // config `stored`, had come to `samples`: another one where a sample is another thing now.
  virtual std::int64_t next_sample(std::int64_t samples,
                                   const config::RunConfig& /*stored*/) const {
    return samples;
  }
  // Called once, after the weights are there and before anything else.
  virtual void begin() {}
  // One step: updates the weights and calls TrainingLoop::finish_step().
  virtual void take_step() = 0;
  virtual void evaluate() = 0;
  // Before a checkpoint is loaded whose run had this config: throws ConfigError where that run kept
  // another state than this one needs.
  virtual void check_resume(const config::RunConfig& /*stored*/) const {}
  // What a resume needs beside weights, optimizer states and progress.
  virtual void visit_state(parallel::StateVisitor& /*visitor*/) {}
  // The checkpoint of the current step is published: nothing before it is asked for again.
  virtual void saved() {}
};

}  // namespace fathom::trainer
