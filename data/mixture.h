#pragma once

#include <cstdint>
#include <vector>

namespace fathom::data {

// Which source each sample of a run is taken from. The shares are rounded to 65,536ths (at least
// one), and the sources take turns as evenly as can be within each round of 65,536 samples, so that
// any sample's place is a look-up: no state, no random numbers.
class Mixture {
 public:
  // Shares in proportion to the weights. Throws ConfigError for no weights, too many, or one that
  // is not positive and finite.
  explicit Mixture(const std::vector<double>& weights);

  struct Place {
    std::int32_t source = 0;
    std::int64_t index = 0;  // how many samples of this source come before
  };
  Place at(std::int64_t sample) const;  // sample >= 0
  // Samples that each source gives in every round.
  const std::vector<std::int64_t>& samples_per_round() const noexcept { return share_; }

 private:
  std::vector<std::int64_t> share_;  // [sources]
  struct Slot {
    std::int32_t source = 0;
    std::int32_t rank = 0;  // among the slots of its source
  };
  std::vector<Slot> round_;
};

}  // namespace fathom::data
