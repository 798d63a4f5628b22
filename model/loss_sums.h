#pragma once

#include <vector>

#include "core/exact_sum.h"
#include "core/stream.h"
#include "core/tensor.h"

namespace fathom::model {

// Sums over the tokens and sequences that a rank has seen since the start of the step; exact, so
// that they do not depend on the layout. What is added stays on the device until it is read, so
// that a micro-batch does not wait for the host.
class LossSums {
 public:
  explicit LossSums(int num_depths) : token_losses_(static_cast<std::size_t>(num_depths)) {}

  // losses [n] float32 of the tokens that this rank counts, nats; 0 for those that do not count
  void add_token_losses(int depth, const Tensor& losses);
  // losses [num_sequences] int64: the bits of doubles, scaled already; of sequences first, first +
  // stride, ...
  void add_balance_losses(const Tensor& losses, int first, int stride);

  // Adds what lies on the device to the sums: waits for it.
  void read(Stream& stream);
  // Of all that was read.
  const std::vector<ExactSum>& token_losses() const noexcept { return token_losses_; }  // [depth]
  const ExactSum& balance_loss() const noexcept { return balance_loss_; }

 private:
  struct TokenLosses {
    std::size_t depth = 0;
    Tensor losses;
  };
  struct BalanceLosses {
    Tensor losses;
    std::size_t first = 0;
    std::size_t stride = 1;
  };

  std::vector<TokenLosses> unread_token_losses_;
  std::vector<BalanceLosses> unread_balance_losses_;
  std::vector<ExactSum> token_losses_;
  ExactSum balance_loss_;
};

}  // namespace fathom::model
