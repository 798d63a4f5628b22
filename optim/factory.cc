#include "optim/factory.h"

#include "optim/adamw.h"

namespace fathom::optim {
namespace {

PhaseKind phase_kind(config::Schedule::Phase::Kind kind) {
  switch (kind) {
    case config::Schedule::Phase::LINEAR:
      return PhaseKind::kLinear;
    case config::Schedule::Phase::COSINE:
      return PhaseKind::kCosine;
    case config::Schedule::Phase::CONSTANT:
      break;
  }
  return PhaseKind::kConstant;
}

}  // namespace

DType make_dtype(config::DType dtype) {
  return dtype == config::BFLOAT16 ? DType::kBFloat16 : DType::kFloat32;
}

std::unique_ptr<Optimizer> make_optimizer(const config::Optimizer& config,
                                          parallel::ParameterBuffer& buffer, Stream& stream) {
  AdamWHyperparameters hyperparameters;
  hyperparameters.beta1 = config.adamw().beta1();
  hyperparameters.beta2 = config.adamw().beta2();
  hyperparameters.epsilon = config.adamw().epsilon();
  hyperparameters.weight_decay = config.weight_decay();
  hyperparameters.moment_dtype = make_dtype(config.moment_dtype());
  hyperparameters.parameter_dtype = make_dtype(config.parameter_dtype());
  hyperparameters.master_weights = config.master_weights();
  return std::make_unique<AdamW>(buffer, hyperparameters, stream);
}

LearningRateSchedule make_learning_rate_schedule(const config::RunConfig& config) {
  const config::Schedule& schedule = config.optimizer().schedule();
  std::optional<std::int64_t> warmup_steps;
  std::optional<std::int64_t> warmup_tokens;
  if (schedule.warmup_steps() > 0) {
    warmup_steps = schedule.warmup_steps();
  }
  if (schedule.warmup_tokens() > 0) {
    warmup_tokens = schedule.warmup_tokens();
  }
  std::vector<Phase> phases;
  for (const config::Schedule::Phase& given : schedule.phases()) {
    Phase phase;
    phase.kind = phase_kind(given.kind());
    if (given.has_until_tokens()) {
      phase.until_tokens = given.until_tokens();
    } else {
      phase.until_step = given.has_until_step() ? given.until_step() : config.train().steps();
    }
    if (given.has_end_lr()) {
      phase.end_lr = given.end_lr();
    }
    phases.push_back(phase);
  }
  return {config.optimizer().lr(), warmup_steps, warmup_tokens, std::move(phases)};
}

BatchRamp make_batch_ramp(const config::RunConfig& config) {
  BatchRamp ramp;
  ramp.end = config.train().global_batch_size();
  if (config.train().has_batch_ramp()) {
    ramp.start = config.train().batch_ramp().start_global_batch_size();
    ramp.ramp_tokens = config.train().batch_ramp().ramp_tokens();
    ramp.multiple = config.train().batch_ramp().increment();
  }
  return ramp;
}

}  // namespace fathom::optim
