#include "kernels/gradient_sum.h"

#include <algorithm>
#include <cmath>

namespace fathom::kernels {
namespace {

constexpr std::int64_t kGrain = 16384;

void round_range(const std::int64_t* sum, float unit, float* value, std::int64_t begin,
                 std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    value[i] = static_cast<float>(sum[i]) * unit;
  }
}

// In place, a float32 lands on an int64 of half its index: what is read must not have been written
// over. One thread goes ahead in ascending order; then [n, 2n) is written to where [n / 2, n) was,
// so that threads may share it.
void round_gradient_cpu(const Tensor& sum, int fraction_bits, Tensor& value, Stream& stream) {
  const auto unit = static_cast<float>(std::ldexp(1.0, -fraction_bits));
  const auto* const from = sum.data<std::int64_t>();
  auto* const to = value.mutable_data<float>();
  const std::int64_t count = sum.numel();
  std::int64_t done = std::min(count, kGrain);
  round_range(from, unit, to, 0, done);
  while (done < count) {
    const std::int64_t more = std::min(done, count - done);
    stream.parallel_for(more, kGrain, [&](std::int64_t begin, std::int64_t end) {
      round_range(from, unit, to, done + begin, done + end);
    });
    done += more;
  }
}

const KernelRegistration register_round(round_gradient_slot, DeviceType::kCpu, &round_gradient_cpu);

}  // namespace
}  // namespace fathom::kernels
