#include "kernels/fill_normal.h"

#include "kernels/cpu/row_parts.h"

namespace fathom::kernels {
namespace {

constexpr std::int64_t kGrain = 512;  // a number takes 20 ns

template <class T>
void fill_elements(const NormalNumbers& numbers, Tensor& x, Stream& stream) {
  T* const elements = x.mutable_data<T>();
  const auto fill_part = [&](std::int64_t row, std::int64_t column, std::int64_t first,
                             std::int64_t last) {
    std::uint64_t index = numbers.first + static_cast<std::uint64_t>(row) * numbers.row_stride +
                          static_cast<std::uint64_t>(column);
    for (std::int64_t i = first; i < last; ++i, ++index) {
      elements[i] = static_cast<T>(numbers.deviation * numbers.random.normal(index));
    }
  };
  stream.parallel_for(x.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    cpu::for_each_row_part(begin, end, x.size(1), fill_part);
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
