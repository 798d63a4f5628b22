#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/scan.cuh"
#include "kernels/permute.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    sum_counts(const std::int64_t* counts, std::int64_t num_experts, std::int64_t* offsets) {
  exclusive_scan_by_block<kThreads, std::int64_t>(
      num_experts + 1,
      [=](std::int64_t i) { return i < num_experts ? counts[i] : std::int64_t{0}; },
      [=](std::int64_t i, std::int64_t sum) { offsets[i] = sum; });
}

void offsets_from_counts_cuda(const Tensor& counts, Tensor& offsets, Stream& stream) {
  launch(sum_counts, {1, kThreads}, stream, device_data<std::int64_t>(counts), counts.numel(),
         device_data<std::int64_t>(offsets));
}

const KernelRegistration register_offsets(offsets_from_counts_slot, DeviceType::kCuda,
                                          offsets_from_counts_cuda);

}  // namespace
}  // namespace fathom::kernels
