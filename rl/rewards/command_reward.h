#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "rl/rewards/line_process.h"
#include "rl/rewards/reward.h"

namespace fathom::rl {

struct CommandRewardOptions {
  std::string command;                            // for /bin/sh -c
  std::chrono::milliseconds time_limit{10'000};   // for one completion
  std::chrono::milliseconds start_limit{60'000};  // for the first one after a start
  int num_processes = 1;
};

// A user's own judge: a command that is started once and then, for each line
//   {"id": ..., "prompt": ..., "answer": ..., "completion": ...}
// on its standard input, writes and flushes one line: correct (1), wrong (0), failed (no verdict)
// or a finite number, the reward itself. A command that dies is started again and asked the same
// once more; one that takes too long, or answers anything else, gives no verdict and is started
// again. Bytes of a completion that are no UTF-8 reach it as U+FFFD. Thread-safe: up to
// num_processes questions at a time, each to a process of its own; others wait. Which process is
// asked is left open, and more are started only as they are needed.
class CommandReward final : public Reward {
 public:
  // Throws ConfigError when the command is empty, or a limit or the number of processes not above
  // 0.
  explicit CommandReward(CommandRewardOptions options);

  // Starts a process and looks at it for so long. Throws ConfigError when it ends meanwhile, as it
  // does where there is no such program, or writes something before it was asked.
  void try_start(std::chrono::milliseconds look);
  RewardValue score(const RewardInput& input) const override;
  int num_at_once() const override { return options_.num_processes; }

 private:
  struct Judge {
    std::unique_ptr<LineProcess> process;  // null: to be started
    bool was_asked = false;                // since its start
  };
  class Loan;  // of a judge
  struct Asked {
    LineProcess::Answer answer;
    std::chrono::milliseconds limit{};  // that it was given
  };

  Asked ask(Judge& judge, const std::string& line) const;

  CommandRewardOptions options_;
  mutable std::mutex mutex_;
  mutable std::condition_variable given_back_;
  mutable std::vector<std::unique_ptr<Judge>> idle_;  // the last one that worked at the end
};

}  // namespace fathom::rl
