#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rl/problems/problem.h"
#include "rl/verifiers/verifier.h"

namespace fathom::rl {

// One completion to be scored. Borrows all that it names.
struct RewardInput {
  const Problem* problem = nullptr;
  const Verifier* verifier = nullptr;  // of the problem
  std::string_view completion;
  std::int64_t num_tokens = 0;  // of the completion
  // At the end of the completion: the string that was asked for and ended it. It may be a tag that
  // closes the answer; where the whole completion is the answer, it is no part of that.
  std::size_t num_stop_bytes = 0;
};

struct RewardValue {
  std::optional<double> value;  // finite; nothing: no verdict was possible
  std::string reason;           // for the log of samples

  bool operator==(const RewardValue&) const = default;
};

// What a completion is worth in one respect. Thread-safe; takes any completion without an
// exception. What could not be judged has no value: its sample is dropped, never scored 0.
class Reward {
 public:
  virtual ~Reward() = default;
  virtual RewardValue score(const RewardInput& input) const = 0;
  // How many completions a rank should have it score side by side: one waits for a judge elsewhere.
  virtual int num_at_once() const { return 1; }
};

struct WeightedReward {
  std::string name;  // of its column
  double weight = 1;
  std::unique_ptr<const Reward> reward;
};

struct Score {
  // Finite. Nothing when a part has no value, or the sum is not finite: drop the sample and count
  // it.
  std::optional<double> total;
  std::vector<RewardValue> parts;  // one per reward, unweighted
};

// total = sum over rewards of weight * value, in order. A reward of weight 0 is a column alone: it
// may fail without the sample being dropped. Thread-safe.
class WeightedRewards {
 public:
  // Throws ConfigError when there is none, for a name that is empty or there twice, a weight that
  // is not finite, and when all weights are 0.
  explicit WeightedRewards(std::vector<WeightedReward> rewards);

  std::vector<std::string> names() const;
  int num_at_once() const;  // of the reward that wants the most
  Score score(const RewardInput& input) const;

 private:
  std::vector<WeightedReward> rewards_;
};

}  // namespace fathom::rl
