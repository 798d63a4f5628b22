#include "model/loss_sums.h"

#include "core/error.h"
#include "kernels/exact_sums.h"

namespace fathom::model {

void LossSums::add_token_losses(int depth, const Tensor& losses) {
  FATHOM_CHECK(0 <= depth && depth < num_depths_, "depth ", depth, " of ", num_depths_);
  parts_.push_back({depth, losses});
}

void LossSums::add_balance_losses(const Tensor& losses, int first, int stride) {
  parts_.push_back({num_depths_, losses, first, stride});
}

Tensor& LossSums::totals(Stream& stream) {
  constexpr std::int64_t kWidth = kernels::kExactSumIntegers;
  if (!totals_.defined()) {
    totals_ = Tensor::zeros(Shape{num_depths_ + 1, kWidth}, DType::kInt64, stream);
  }
  for (const Part& part : parts_) {
    Tensor sum = totals_.view_elements(part.row * kWidth, Shape{kWidth});
    kernels::add_exactly(part.losses, part.first, part.stride, sum, stream);
  }
  parts_.clear();
  return totals_;
}

}  // namespace fathom::model
