#include "optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace fathom::optim {
namespace {

// A phase in one unit, steps or tokens: how far it is from its start to its end.
double fraction_done(std::int64_t from, std::int64_t to, std::int64_t now) {
  if (to <= from) {
    return 1.0;
  }
  return std::clamp(static_cast<double>(now - from) / static_cast<double>(to - from), 0.0, 1.0);
}

double rate_within(const Phase& phase, double start_lr, double fraction) {
  const double end_lr = phase.end_lr.value_or(start_lr);
  switch (phase.kind) {
    case PhaseKind::kConstant:
      return end_lr;
    case PhaseKind::kLinear:
      return start_lr + (end_lr - start_lr) * fraction;
    case PhaseKind::kCosine:
      return end_lr + (start_lr - end_lr) * 0.5 * (1.0 + std::cos(std::numbers::pi * fraction));
  }
  return start_lr;
}

}  // namespace

LearningRateSchedule::LearningRateSchedule(double peak, std::optional<std::int64_t> warmup_steps,
                                           std::optional<std::int64_t> warmup_tokens,
                                           std::vector<Phase> phases)
    : peak_(peak),
      warmup_steps_(warmup_steps),
      warmup_tokens_(warmup_tokens),
      phases_(std::move(phases)) {}

double LearningRateSchedule::at(const Progress& progress, std::int64_t step_tokens) const {
  // Steps and tokens at the end of the step that is about to be made.
  const std::int64_t step = progress.step + 1;
  const std::int64_t tokens = progress.tokens + step_tokens;
  if (warmup_steps_ && step < *warmup_steps_) {
    return peak_ * static_cast<double>(step) / static_cast<double>(*warmup_steps_);
  }
  if (warmup_tokens_ && tokens < *warmup_tokens_) {
    return peak_ * static_cast<double>(tokens) / static_cast<double>(*warmup_tokens_);
  }
  double rate = peak_;
  std::int64_t from_step = warmup_steps_.value_or(0);
  std::int64_t from_tokens = warmup_tokens_.value_or(0);
  for (const Phase& phase : phases_) {
    const bool by_tokens = phase.until_tokens.has_value();
    const std::int64_t end = by_tokens ? *phase.until_tokens : phase.until_step.value_or(step + 1);
    const std::int64_t now = by_tokens ? tokens : step;
    const double fraction = fraction_done(by_tokens ? from_tokens : from_step, end, now);
    const double reached = rate_within(phase, rate, fraction);
    if (now <= end) {
      return reached;
    }
    rate = rate_within(phase, rate, 1.0);
    (by_tokens ? from_tokens : from_step) = end;
  }
  return rate;
}

std::int64_t global_batch_size(const BatchRamp& ramp, std::int64_t tokens_seen) {
  if (ramp.ramp_tokens <= 0 || tokens_seen >= ramp.ramp_tokens) {
    return ramp.end;
  }
  const double grown = static_cast<double>(ramp.end - ramp.start) *
                       static_cast<double>(tokens_seen) / static_cast<double>(ramp.ramp_tokens);
  const std::int64_t size = ramp.start + static_cast<std::int64_t>(grown);
  return std::max(ramp.start, size / ramp.multiple * ramp.multiple);
}

}  // namespace fathom::optim
