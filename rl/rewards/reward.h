#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
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
  // One value per input, in order.
  virtual std::vector<RewardValue> score(std::span<const RewardInput> inputs) const = 0;
};

struct WeightedReward {
  std::string name;  // of its column
  double weight = 1;
  std::unique_ptr<const Reward> reward;
};

struct Score {
  std::optional<double> total;     // nothing when a part has no value: drop the sample and count it
  std::vector<RewardValue> parts;  // one per reward, unweighted
};

// total = sum over rewards of weight * value, in order. A reward of weight 0 is a column alone: it
// may fail without the sample being dropped.
class WeightedRewards {
 public:
  // Throws ConfigError when there is none, for a name that is empty or there twice, a weight that
  // is not finite, and when all weights are 0.
  explicit WeightedRewards(std::vector<WeightedReward> rewards);

  std::vector<std::string> names() const;
  std::vector<Score> score(std::span<const RewardInput> inputs) const;

 private:
  std::vector<WeightedReward> rewards_;
};

}  // namespace fathom::rl
