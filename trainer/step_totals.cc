#include "trainer/step_totals.h"

#include <cmath>

#include "core/host_copy.h"
#include "kernels/elementwise.h"
#include "kernels/exact_sums.h"
#include "kernels/gradient_norm.h"
#include "optim/grad_clip.h"

namespace fathom::trainer {
namespace {

constexpr std::int64_t kWidth = kernels::kExactSumIntegers;
constexpr std::int64_t kNumCounters = 2;

}  // namespace

StepTotals::StepTotals(std::int64_t num_depths, std::int64_t num_loads, Stream& stream) {
  const std::int64_t num_sums = num_depths + 2;
  const std::int64_t sums_end = num_sums * kWidth;
  numbers_ = Tensor::zeros(Shape{sums_end + kNumCounters + num_loads}, DType::kInt64, stream);
  sums_ = numbers_.view_elements(0, Shape{num_sums, kWidth});
  counters_ = numbers_.view_elements(sums_end, Shape{kNumCounters});
  loads_ = numbers_.view_elements(sums_end + kNumCounters, Shape{num_loads});
}

void StepTotals::add(model::LossSums& losses, parallel::ParameterBuffer& parameters,
                     parallel::Communicator& world, Stream& stream) {
  Tensor squares = numbers_.narrow(0, kWidth);
  Tensor non_finite = counters_.narrow(0, 1);
  Tensor num_refused = counters_.narrow(1, 2);
  optim::add_gradient_squares(parameters, squares, non_finite, num_refused, stream);
  Tensor of_losses = sums_.narrow(1, sums_.size(0));
  kernels::copy(losses.totals(stream), of_losses, stream);
  Tensor all = numbers_.narrow(0, sums_.numel() + kNumCounters);
  world.all_reduce(all, parallel::ReduceOp::kSum, stream).wait();
}

Tensor StepTotals::update_scale(double max_norm, Stream& stream) const {
  Tensor scale = Tensor::empty(Shape{1}, DType::kFloat32, stream);
  kernels::update_scale(sums_, counters_, max_norm, scale, stream);
  return scale;
}

StepTotals::Values StepTotals::read(Stream& stream) const {
  const std::vector<std::int64_t> numbers = to_host<std::int64_t>(numbers_, stream);
  const auto losses_begin = numbers.begin() + kWidth;
  const auto counters = numbers.begin() + sums_.numel();
  Values values;
  values.losses = to_loss_totals({losses_begin, counters});
  values.grad_norm = std::sqrt(kernels::exact_sum_values({numbers.begin(), losses_begin})[0]);
  values.num_non_finite = counters[0];
  values.num_refused = counters[1];
  values.is_finite = values.num_non_finite == 0 && values.num_refused == 0 &&
                     std::isfinite(values.grad_norm) && std::isfinite(values.losses.balance_loss);
  for (const double total : values.losses.token_losses) {
    values.is_finite = values.is_finite && std::isfinite(total);
  }
  values.loads.assign(counters + kNumCounters, numbers.end());
  return values;
}

}  // namespace fathom::trainer
