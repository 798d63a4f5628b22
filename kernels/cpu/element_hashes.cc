#include "kernels/element_hashes.h"

#include <atomic>
#include <cstring>

#include "kernels/cpu/row_parts.h"

namespace fathom::kernels {
namespace {

constexpr std::int64_t kGrain = 16384;  // an element takes 1 ns

// Bits is an unsigned integer as wide as an element.
template <class Bits>
std::uint64_t hash_elements(const IndexedElements& elements, const Tensor& x, std::int64_t begin,
                            std::int64_t end) {
  std::uint64_t sum = 0;
  cpu::for_each_row_part(
      begin, end, x.size(1),
      [&, raw = x.raw(), hash = elements.hash](std::int64_t row, std::int64_t column,
                                               std::int64_t first, std::int64_t last) {
        std::uint64_t index = elements.first +
                              static_cast<std::uint64_t>(row) * elements.row_stride +
                              static_cast<std::uint64_t>(column);
        for (std::int64_t i = first; i < last; ++i, ++index) {
          Bits bits;
          std::memcpy(&bits, raw + i * static_cast<std::int64_t>(sizeof(Bits)), sizeof(Bits));
          sum += hash(index, bits);
        }
      });
  return sum;
}

template <class Bits>
std::uint64_t hash_all(const IndexedElements& elements, const Tensor& x, Stream& stream) {
  std::atomic<std::uint64_t> sum{0};
  stream.parallel_for(x.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    sum.fetch_add(hash_elements<Bits>(elements, x, begin, end), std::memory_order_relaxed);
  });
  return sum.load();
}

std::uint64_t hash_all(const IndexedElements& elements, const Tensor& x, Stream& stream) {
  switch (size_of(x.dtype())) {
    case 2:
      return hash_all<std::uint16_t>(elements, x, stream);
    case 4:
      return hash_all<std::uint32_t>(elements, x, stream);
    default:
      FATHOM_CHECK(size_of(x.dtype()) == 8, x.dtype());
      return hash_all<std::uint64_t>(elements, x, stream);
  }
}

void add_element_hashes_cpu(const IndexedElements& elements, const Tensor& x, Tensor& sum,
                            Stream& stream) {
  std::int64_t& total = sum.mutable_data<std::int64_t>()[0];
  total =
      static_cast<std::int64_t>(static_cast<std::uint64_t>(total) + hash_all(elements, x, stream));
}

const KernelRegistration register_add_element_hashes(add_element_hashes_slot, DeviceType::kCpu,
                                                     add_element_hashes_cpu);

}  // namespace
}  // namespace fathom::kernels
