#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/stable_order.h"
#include "kernels/permute.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

// An id outside, negative ones too, goes to the last expert: a kernel cannot refuse it, and memory
// stays safe.
void sort_slots_cuda(const Tensor& expert_ids, Tensor& counts, Tensor& slot_of_row,
                     Tensor& row_of_slot, Stream& stream) {
  const std::int64_t num_experts = counts.numel();
  FATHOM_CHECK(num_experts <= kMaxSortBins, "slots of ", num_experts,
               " experts: CUDA sorts those of up to ", kMaxSortBins);
  sort_into_bins({device_data<std::int32_t>(expert_ids), nullptr, expert_ids.numel(), 0,
                  ~std::uint32_t{0}, static_cast<int>(num_experts)},
                 {device_data<std::int64_t>(counts), device_data<std::int32_t>(slot_of_row),
                  device_data<std::int32_t>(row_of_slot)},
                 stream);
}

const KernelRegistration register_sort_slots(sort_slots_slot, DeviceType::kCuda, sort_slots_cuda);

}  // namespace
}  // namespace fathom::kernels
