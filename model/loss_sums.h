#pragma once

#include <cstdint>
#include <vector>

#include "core/stream.h"
#include "core/tensor.h"

namespace fathom::model {

// Sums over the tokens and sequences that a rank has seen since the start of the step; exact, so
// that they do not depend on the layout. They lie on the device: nothing here waits for it.
class LossSums {
 public:
  explicit LossSums(int num_depths) : num_depths_(num_depths) {}

  // losses [n] float32 of the tokens that this rank counts, nats; 0 for those that do not count
  void add_token_losses(int depth, const Tensor& losses);
  // losses [num_sequences] int64: the bits of doubles, scaled already; of sequences first, first +
  // stride, ...
  void add_balance_losses(const Tensor& losses, int first, int stride);

  // [num_depths + 1, kernels::kExactSumIntegers] int64, exact sums of all that was added: the token
  // losses of each depth, then the balance losses. Lets go of what was added.
  Tensor& totals(Stream& stream);

 private:
  struct Part {
    std::int64_t row = 0;
    Tensor losses;
    std::int64_t first = 0;
    std::int64_t stride = 1;
  };

  int num_depths_;
  std::vector<Part> parts_;
  Tensor totals_;
};

}  // namespace fathom::model
