#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace fathom::optim {

// How far a run has come before the step that asks.
struct Progress {
  std::int64_t step = 0;    // steps done
  std::int64_t tokens = 0;  // tokens seen
};

enum class PhaseKind { kConstant, kLinear, kCosine };

struct Phase {
  PhaseKind kind = PhaseKind::kConstant;
  std::optional<std::int64_t> until_step;  // one of the two
  std::optional<std::int64_t> until_tokens;
  // kConstant: the rate of the whole phase, or the one reached before.
  std::optional<double> end_lr;
};

// The learning rate of DeepSeek's recipes (arXiv:2412.19437, section 4.2; 2405.04434,
// section 3.1.2): a linear warm-up from 0 to the peak, then phases one after another, each from
// where the one before ended. The first step already trains: it is given the rate that is reached
// at its own end, peak / warmup_steps.
class LearningRateSchedule {
 public:
  LearningRateSchedule(double peak, std::optional<std::int64_t> warmup_steps,
                       std::optional<std::int64_t> warmup_tokens, std::vector<Phase> phases);

  // Of the step that begins at `progress` and reads `step_tokens` tokens.
  double at(const Progress& progress, std::int64_t step_tokens) const;

 private:
  double peak_;
  std::optional<std::int64_t> warmup_steps_;
  std::optional<std::int64_t> warmup_tokens_;
  std::vector<Phase> phases_;
};

// Sequences of the global batch, grown linearly with the tokens seen from `start` to `end` over
// `ramp_tokens`, in multiples of `multiple` (arXiv:2412.19437, section 4.2; the shape of the ramp
// is ours). Rounded down, at least `start`.
struct BatchRamp {
  std::int64_t start = 0;
  std::int64_t end = 0;
  std::int64_t ramp_tokens = 0;  // 0: always `end`
  std::int64_t multiple = 1;
};
std::int64_t global_batch_size(const BatchRamp& ramp, std::int64_t tokens_seen);

}  // namespace fathom::optim
