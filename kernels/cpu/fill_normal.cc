#include "kernels/fill_normal.h"

#include <algorithm>

namespace fathom::kernels {
namespace {

constexpr std::int64_t kGrain = 512;  // a number takes 20 ns

template <class T>
void fill_elements(const NormalNumbers& numbers, Tensor& x, Stream& stream) {
  T* const elements = x.mutable_data<T>();
  const std::int64_t num_columns = x.size(1);
  stream.parallel_for(x.numel(), kGrain, [=, &numbers](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end;) {
      const std::int64_t row = i / num_columns;
      const std::int64_t row_end = std::min(end, (row + 1) * num_columns);
      std::uint64_t index = numbers.first + static_cast<std::uint64_t>(row) * numbers.row_stride +
                            static_cast<std::uint64_t>(i - row * num_columns);
      for (; i < row_end; ++i, ++index) {
        elements[i] = static_cast<T>(numbers.deviation * numbers.random.normal(index));
      }
    }
  });
}

void fill_normal_cpu(const NormalNumbers& numbers, Tensor& x, Stream& stream) {
  if (x.dtype() == DType::kBFloat16) {
    fill_elements<BFloat16>(numbers, x, stream);
  } else {
    fill_elements<float>(numbers, x, stream);
  }
}

const KernelRegistration register_fill_normal(fill_normal_slot, DeviceType::kCpu, fill_normal_cpu);

}  // namespace
}  // namespace fathom::kernels
