#include "kernels/exact_sums.h"

#include <algorithm>
#include <bit>

namespace fathom::kernels {
namespace {

void add_exactly_cpu(const Tensor& x, std::int64_t first, std::int64_t stride, Tensor& sum,
                     Stream& /*stream*/) {
  ExactSum total = ExactSum::from_integers(sum.values<std::int64_t>());
  for (std::int64_t i = first; i < x.numel(); i += stride) {
    total.add(x.dtype() == DType::kInt64 ? std::bit_cast<double>(x.data<std::int64_t>()[i])
                                         : static_cast<double>(x.data<float>()[i]));
  }
  std::ranges::copy(total.to_integers(), sum.mutable_data<std::int64_t>());
}

const KernelRegistration register_add(add_exactly_slot, DeviceType::kCpu, add_exactly_cpu);

}  // namespace
}  // namespace fathom::kernels
