#include <limits>
#include <type_traits>

#include "core/cuda/check.h"
#include "core/cuda/queue.h"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/grouped_matmul.cuh"
#include "kernels/grouped_matmul.h"

namespace fathom::kernels {
namespace cuda {

int num_multiprocessors(Stream& stream) {
  int count = 0;
  check_cuda(
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, cuda_queue(stream).device()),
      "cudaDeviceGetAttribute of the multiprocessors");
  return count;
}

namespace {

int to_int(std::int64_t size) {
  FATHOM_CHECK(size < std::numeric_limits<int>::max(), "a dimension of ", size);
  return static_cast<int>(size);
}

// `weights` is the shape of w or dw.
GroupedSizes sizes_of(std::int64_t num_tokens, const Shape& weights, const Tensor& offsets) {
  return {.offsets = device_data<std::int64_t>(offsets),
          .parts = weights[0] == 0 ? 1 : to_int((offsets.numel() - 1) / weights[0]),
          .num_experts = to_int(weights[0]),
          .num_tokens = to_int(num_tokens),
          .out_size = to_int(weights[1]),
          .in_size = to_int(weights[2])};
}

bool fits_tensor_cores(const GroupedOperands<__nv_bfloat16>& operands, const GroupedSizes& sizes) {
  const auto fits = [&](int size) {
    return size > 0 && fits_packs<__nv_bfloat16>(size, {operands.a, operands.b, operands.c});
  };
  return sizes.num_tokens > 0 && sizes.num_experts > 0 && fits(sizes.out_size) &&
         fits(sizes.in_size);
}

template <GroupedProduct kProduct>
void multiply(const Tensor& a, const Tensor& b, Tensor& c, const GroupedSizes& sizes,
              Stream& stream) {
  with_activation_type(a.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const GroupedOperands<T> operands{device_data<T>(a), device_data<T>(b), c.raw()};
    if constexpr (std::is_same_v<T, __nv_bfloat16>) {
      if (fits_tensor_cores(operands, sizes)) {
        grouped_product_sm90<kProduct>(operands, sizes, stream);
        return;
      }
    }
    grouped_product_general<kProduct, T>(operands, sizes, stream);
  });
}

void forward(const Tensor& x, const Tensor& w, const Tensor& offsets, Tensor& y, Stream& stream) {
  multiply<GroupedProduct::kForward>(x, w, y, sizes_of(x.size(0), w.shape(), offsets), stream);
}

void backward_input(const Tensor& dy, const Tensor& w, const Tensor& offsets, Tensor& dx,
                    Stream& stream) {
  multiply<GroupedProduct::kBackwardInput>(dy, w, dx, sizes_of(dy.size(0), w.shape(), offsets),
                                           stream);
}

void backward_weight(const Tensor& dy, const Tensor& x, const Tensor& part_offsets, GradientSum& dw,
                     Stream& stream) {
  FATHOM_CHECK(dw.sum.dtype() == DType::kFloat32, "on CUDA a sum of ", dw.sum.dtype());
  GroupedSizes sizes = sizes_of(x.size(0), dw.sum.shape(), part_offsets);
  sizes.is_adding = !dw.is_empty;
  multiply<GroupedProduct::kBackwardWeight>(dy, x, dw.sum, sizes, stream);
}

const KernelRegistration register_forward(grouped_matmul_forward_slot, DeviceType::kCuda, forward);
const KernelRegistration register_backward_input(grouped_matmul_backward_input_slot,
                                                 DeviceType::kCuda, backward_input);
const KernelRegistration register_backward_weight(grouped_matmul_backward_weight_slot,
                                                  DeviceType::kCuda, backward_weight);

}  // namespace
}  // namespace cuda
}  // namespace fathom::kernels
