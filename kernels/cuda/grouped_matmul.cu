#include <limits>

#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/grouped_product.h"
#include "kernels/grouped_matmul.h"

namespace fathom::kernels {
namespace cuda {

int to_int(std::int64_t size) {
  FATHOM_CHECK(size < std::numeric_limits<int>::max(), "a dimension of ", size);
  return static_cast<int>(size);
}

namespace {

bool is_aligned(const RowMajor& matrix) {
  constexpr std::int64_t kBytes = 16;
  return reinterpret_cast<std::uintptr_t>(matrix.data) % kBytes == 0 &&
         matrix.stride * size_of(matrix.dtype) % kBytes == 0;
}

bool is_for_tensor_cores(const GroupedOperands& operands, const GroupedSizes& sizes,
                         SumOrder order) {
  const auto fits = [](int size) { return size > 0 && size % kPackSize<__nv_bfloat16> == 0; };
  if (operands.a.dtype != DType::kBFloat16 || sizes.num_tokens == 0 || sizes.num_experts == 0 ||
      !fits(sizes.out_size) || !fits(sizes.in_size)) {
    return false;
  }
  const bool are_aligned =
      is_aligned(operands.a) && is_aligned(operands.b) && is_aligned(operands.c);
  // The two kernels sum in different orders: where something lies must not choose between them.
  FATHOM_CHECK(are_aligned || order == SumOrder::kFastest, "a product of bfloat16 in fixed order, ",
               sizes.in_size, " in, ", sizes.out_size,
               " out, whose matrices do not lie at multiples of 16 bytes");
  return are_aligned;
}

}  // namespace

void grouped_product(GroupedProduct product, const GroupedOperands& operands,
                     const GroupedSizes& sizes, Stream& stream) {
  if (!is_for_tensor_cores(operands, sizes, stream.sum_order())) {
    grouped_product_general(product, operands, sizes, stream);
  } else if (operands.c.dtype == DType::kInt64) {
    grouped_contributions_sm90(operands, sizes, stream);
  } else {
    grouped_product_sm90(product, operands, sizes, stream);
  }
}

namespace {

// `weights` is the shape of w or dw.
GroupedSizes sizes_of(std::int64_t num_tokens, const Shape& weights, const Tensor& offsets) {
  return {.offsets = device_data<std::int64_t>(offsets),
          .parts = weights[0] == 0 ? 1 : to_int((offsets.numel() - 1) / weights[0]),
          .num_experts = to_int(weights[0]),
          .num_tokens = to_int(num_tokens),
          .out_size = to_int(weights[1]),
          .in_size = to_int(weights[2])};
}

RowMajor row_major(const Tensor& matrices) {
  return {matrices.raw(), matrices.dtype(), matrices.size(matrices.shape().rank() - 1)};
}

void forward(const Tensor& x, const Tensor& w, const Tensor& offsets, Tensor& y, Stream& stream) {
  grouped_product(GroupedProduct::kForward, {row_major(x), row_major(w), row_major(y)},
                  sizes_of(x.size(0), w.shape(), offsets), stream);
}

void backward_input(const Tensor& dy, const Tensor& w, const Tensor& offsets, Tensor& dx,
                    Stream& stream) {
  grouped_product(GroupedProduct::kBackwardInput, {row_major(dy), row_major(w), row_major(dx)},
                  sizes_of(dy.size(0), w.shape(), offsets), stream);
}

void backward_weight(const Tensor& dy, const Tensor& x, const Tensor& part_offsets, GradientSum& dw,
                     Stream& stream) {
  GroupedSizes sizes = sizes_of(x.size(0), dw.sum.shape(), part_offsets);
  sizes.is_adding = !dw.is_empty;
  grouped_product(GroupedProduct::kBackwardWeight,
                  {row_major(dy), row_major(x), row_major(dw.sum), &dw}, sizes, stream);
}

const KernelRegistration register_forward(grouped_matmul_forward_slot, DeviceType::kCuda, forward);
const KernelRegistration register_backward_input(grouped_matmul_backward_input_slot,
                                                 DeviceType::kCuda, backward_input);
const KernelRegistration register_backward_weight(grouped_matmul_backward_weight_slot,
                                                  DeviceType::kCuda, backward_weight);

}  // namespace
}  // namespace cuda
}  // namespace fathom::kernels
