#include "model/loss_sums.h"

#include <bit>

#include "core/error.h"
#include "core/host_copy.h"

namespace fathom::model {

void LossSums::add_token_losses(int depth, const Tensor& losses) {
  const auto index = static_cast<std::size_t>(depth);
  FATHOM_CHECK(index < token_losses_.size(), "depth ", depth, " of ", token_losses_.size());
  unread_token_losses_.push_back({index, losses});
}

void LossSums::add_balance_losses(const Tensor& losses, int first, int stride) {
  unread_balance_losses_.push_back(
      {losses, static_cast<std::size_t>(first), static_cast<std::size_t>(stride)});
}

void LossSums::read(Stream& stream) {
  for (const auto& [depth, losses] : unread_token_losses_) {
    for (const float loss : to_host<float>(losses, stream)) {
      token_losses_[depth].add(static_cast<double>(loss));
    }
  }
  unread_token_losses_.clear();
  for (const auto& [losses, first, stride] : unread_balance_losses_) {
    const std::vector<std::int64_t> bits = to_host<std::int64_t>(losses, stream);
    for (std::size_t sequence = first; sequence < bits.size(); sequence += stride) {
      balance_loss_.add(std::bit_cast<double>(bits[sequence]));
    }
  }
  unread_balance_losses_.clear();
}

}  // namespace fathom::model
