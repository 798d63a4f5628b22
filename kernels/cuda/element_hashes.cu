#include <algorithm>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/element_hashes.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 2048;
constexpr std::int64_t kElementsOfThread = 16;  // where there are no more than for all blocks

using Word = unsigned long long;  // what 64-bit atomics take

// Bits is an unsigned integer as wide as an element.
template <class Bits>
__global__ void __launch_bounds__(kThreads)
    add_hashes(IndexedElements elements, const Bits* x, std::int64_t count,
               std::int64_t num_columns, Word* sum) {
  const std::int64_t num_threads = std::int64_t{gridDim.x} * kThreads;
  Word mine = 0;
#pragma unroll 4
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += num_threads) {
    const std::int64_t row = i / num_columns;
    const std::uint64_t index = elements.first +
                                static_cast<std::uint64_t>(row) * elements.row_stride +
                                static_cast<std::uint64_t>(i - row * num_columns);
    mine += elements.hash(index, x[i]);
  }
  mine = reduce_block<Sum, kThreads>(mine, Word{0});
  if (threadIdx.x == 0) {
    atomicAdd(sum, mine);
  }
}

template <class Bits>
void add_all(const IndexedElements& elements, const Tensor& x, Tensor& sum, Stream& stream) {
  const std::int64_t num_blocks =
      std::min(kMaxBlocks, blocks_for(x.numel(), kThreads * kElementsOfThread));
  launch(add_hashes<Bits>, {num_blocks, kThreads}, stream, elements, device_data<Bits>(x),
         x.numel(), x.size(1), device_data<Word>(sum));
}

void add_element_hashes_cuda(const IndexedElements& elements, const Tensor& x, Tensor& sum,
                             Stream& stream) {
  switch (size_of(x.dtype())) {
    case 2:
      return add_all<std::uint16_t>(elements, x, sum, stream);
    case 4:
      return add_all<std::uint32_t>(elements, x, sum, stream);
    default:
      FATHOM_CHECK(size_of(x.dtype()) == 8, x.dtype());
      return add_all<std::uint64_t>(elements, x, sum, stream);
  }
}

const KernelRegistration register_add_element_hashes(add_element_hashes_slot, DeviceType::kCuda,
                                                     add_element_hashes_cuda);

}  // namespace
}  // namespace fathom::kernels
