#include <string>

#include "configs/rules.h"

namespace fathom::config {
namespace {

void check_batch_ramp(const Train& train, Problems& problems) {
  const BatchRamp& ramp = train.batch_ramp();
  if (require_size(problems, "train.batch_ramp.start_global_batch_size",
                   ramp.start_global_batch_size())) {
    problems.require(ramp.start_global_batch_size() <= train.global_batch_size(),
                     "train.batch_ramp.start_global_batch_size (", ramp.start_global_batch_size(),
                     ") is above train.global_batch_size (", train.global_batch_size(), ')');
    require_size(problems, "train.batch_ramp.increment", ramp.increment());
  }
  require_positive(problems, "train.batch_ramp.ramp_tokens",
                   static_cast<double>(ramp.ramp_tokens()));
}

void check_lengths(const RunConfig& config, Problems& problems) {
  const std::int64_t length = config.train().sequence_length();
  if (!require_size(problems, "train.sequence_length", length)) {
    return;
  }
  const Model& model = config.model();
  problems.require(model.max_position() <= 0 || length <= model.max_position(),
                   "train.sequence_length (", length, ") is above model.max_position (",
                   model.max_position(), ')');
  problems.require(length > model.mtp_depth(), "train.sequence_length (", length,
                   ") must be above model.mtp_depth (", model.mtp_depth(), ')');
}

void check_trace(const Trace& trace, Problems& problems) {
  const std::int64_t step = trace.elements_step();
  require_not_negative(problems, "train.trace.elements_step", static_cast<double>(step));
  problems.require(step <= 0 || trace.enabled(), "train.trace.elements_step (", step,
                   ") needs train.trace.enabled");
  problems.require((step > 0) == !trace.elements_of().empty(), "train.trace.elements_step (", step,
                   ") and train.trace.elements_of (\"", trace.elements_of(),
                   "\") go together: set both or none");
}

using Phase = Schedule::Phase;

void check_phase(const Phase& phase, const std::string& name, bool is_last, Problems& problems) {
  problems.require(!(phase.has_until_step() && phase.has_until_tokens()), name,
                   " has both until_step (", phase.until_step(), ") and until_tokens (",
                   phase.until_tokens(), "): give one");
  problems.require(is_last || phase.has_until_step() || phase.has_until_tokens(), name,
                   " has neither until_step nor until_tokens: only the last phase may");
  problems.require(phase.kind() == Phase::CONSTANT || phase.has_end_lr(), name,
                   ".end_lr is not set: a ", Phase::Kind_Name(phase.kind()), " phase needs one");
  require_not_negative(problems, name + ".end_lr", phase.end_lr());
}

// The end of each phase must lie beyond the last end that is given in the same unit.
void check_order(const Schedule& schedule, Problems& problems) {
  std::int64_t last_step = schedule.warmup_steps();
  std::int64_t last_tokens = schedule.warmup_tokens();
  const auto check = [&](int i, std::string_view unit, std::int64_t end, std::int64_t& last) {
    problems.require(end > last, "optimizer.schedule.phases[", i, "].", unit, " (", end,
                     ") must be above ", last, ", where what comes before it ends");
    last = end;
  };
  for (int i = 0; i < schedule.phases_size(); ++i) {
    if (schedule.phases(i).has_until_step()) {
      check(i, "until_step", schedule.phases(i).until_step(), last_step);
    }
    if (schedule.phases(i).has_until_tokens()) {
      check(i, "until_tokens", schedule.phases(i).until_tokens(), last_tokens);
    }
  }
}

// A slope goes from where what precedes it ended, which is known in the unit of that alone. The
// last phase, without an end, ends with the steps of the run.
void check_units(const Schedule& schedule, Problems& problems) {
  std::string before = schedule.warmup_tokens() > 0  ? "tokens"
                       : schedule.warmup_steps() > 0 ? "steps"
                                                     : "";
  for (int i = 0; i < schedule.phases_size(); ++i) {
    const Phase& phase = schedule.phases(i);
    const std::string unit = phase.has_until_tokens() ? "tokens" : "steps";
    problems.require(phase.kind() == Phase::CONSTANT || before.empty() || unit == before,
                     "optimizer.schedule.phases[", i, "] is ", Phase::Kind_Name(phase.kind()),
                     " in ", unit, ", and ",
                     i == 0 ? std::string("the warm-up") : concat("phases[", i - 1, ']'),
                     " before it ends in ", before, ": give both in one unit");
    before = unit;
  }
}

void check_schedule(const Schedule& schedule, Problems& problems) {
  require_not_negative(problems, "optimizer.schedule.warmup_steps",
                       static_cast<double>(schedule.warmup_steps()));
  require_not_negative(problems, "optimizer.schedule.warmup_tokens",
                       static_cast<double>(schedule.warmup_tokens()));
  problems.require(schedule.warmup_steps() <= 0 || schedule.warmup_tokens() <= 0,
                   "optimizer.schedule has both warmup_steps (", schedule.warmup_steps(),
                   ") and warmup_tokens (", schedule.warmup_tokens(), "): give one");
  for (int i = 0; i < schedule.phases_size(); ++i) {
    check_phase(schedule.phases(i), concat("optimizer.schedule.phases[", i, ']'),
                i + 1 == schedule.phases_size(), problems);
  }
  check_order(schedule, problems);
  check_units(schedule, problems);
}

void check_beta(std::string_view name, double beta, Problems& problems) {
  problems.require(!(beta < 0 || beta >= 1), name, " (", beta, ") is not in [0, 1)");
}

}  // namespace

void check_train(const RunConfig& config, Problems& problems) {
  const Train& train = config.train();
  require_size(problems, "train.steps", train.steps());
  require_size(problems, "train.micro_batch_size", train.micro_batch_size());
  require_size(problems, "train.global_batch_size", train.global_batch_size());
  check_lengths(config, problems);
  require_not_negative(problems, "train.time_limit", train.time_limit());
  constexpr std::int64_t kMaxTimeout = 30 * 24 * 3600;
  problems.require(train.watchdog_timeout() >= 1 && train.watchdog_timeout() <= kMaxTimeout,
                   "train.watchdog_timeout (", train.watchdog_timeout(), ") is not in [1, ",
                   kMaxTimeout, "] seconds");
  require_positive(problems, "train.max_skipped_steps",
                   static_cast<double>(train.max_skipped_steps()));
  if (train.has_batch_ramp()) {
    check_batch_ramp(train, problems);
  }
  check_trace(train.trace(), problems);
  require_not_negative(problems, "train.mtp_loss_weight", train.mtp_loss_weight());
  require_not_negative(problems, "train.mtp_loss_weight_later", train.mtp_loss_weight_later());
  require_not_negative(problems, "train.mtp_loss_weight_later_tokens",
                       static_cast<double>(train.mtp_loss_weight_later_tokens()));
  require_not_negative(problems, "train.selection_bias_freeze_tokens",
                       static_cast<double>(train.selection_bias_freeze_tokens()));
}

void check_optimizer(const Optimizer& optimizer, Problems& problems) {
  if (problems.require(optimizer.has_lr(), "optimizer.lr is not set")) {
    require_positive(problems, "optimizer.lr", optimizer.lr());
  }
  check_beta("optimizer.adamw.beta1", optimizer.adamw().beta1(), problems);
  check_beta("optimizer.adamw.beta2", optimizer.adamw().beta2(), problems);
  require_positive(problems, "optimizer.adamw.epsilon", optimizer.adamw().epsilon());
  require_not_negative(problems, "optimizer.weight_decay", optimizer.weight_decay());
  problems.require(!(optimizer.lr() * optimizer.weight_decay() > 1), "optimizer.lr (",
                   optimizer.lr(), ") x optimizer.weight_decay (", optimizer.weight_decay(),
                   ") is above 1: a step would turn the weights round");
  require_not_negative(problems, "optimizer.clip_norm", optimizer.clip_norm());
  problems.require(
      optimizer.parameter_dtype() == FLOAT32 || optimizer.master_weights(),
      "optimizer.parameter_dtype ", DType_Name(optimizer.parameter_dtype()),
      " needs optimizer.master_weights: updates below 1/256 of a weight would be lost");
  check_schedule(optimizer.schedule(), problems);
}

}  // namespace fathom::config
