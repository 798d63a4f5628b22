#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include "rl/rewards/line_process.h"
#include "rl/rewards/reward.h"

namespace fathom::rl {

struct CommandRewardOptions {
  std::string command;                           // for /bin/sh -c
  std::chrono::milliseconds time_limit{10'000};  // for one completion
};

// A user's own judge: a command that is started once and then, for each line
//   {"id": ..., "prompt": ..., "answer": ..., "completion": ...}
// on its standard input, writes and flushes one line: correct (1), wrong (0), failed (no verdict)
// or a finite number, the reward itself. A command that dies is started again and asked the same
// once more; one that takes too long, or answers anything else, gives no verdict and is started
// again. Bytes of a completion that are no UTF-8 reach it as U+FFFD. Thread-safe: one question at a
// time.
class CommandReward final : public Reward {
 public:
  // Throws ConfigError when the command is empty or the time limit not above 0.
  explicit CommandReward(CommandRewardOptions options);
  std::vector<RewardValue> score(std::span<const RewardInput> inputs) const override;

 private:
  RewardValue score_one(const RewardInput& input) const;

  CommandRewardOptions options_;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<LineProcess> process_;  // null: to be started
};

}  // namespace fathom::rl
