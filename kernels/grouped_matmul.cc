#include "kernels/grouped_matmul.h"

#include "core/error.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Stream&)>
    grouped_matmul_forward_slot("grouped_matmul_forward");
constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Stream&)>
    grouped_matmul_backward_input_slot("grouped_matmul_backward_input");
constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Accumulate,
                          Stream&)>
    grouped_matmul_backward_weight_slot("grouped_matmul_backward_weight");

namespace {

void check_grouped(const char* operation, const Tensor& x, const Tensor& w, const Tensor& offsets,
                   const Tensor& y) {
  FATHOM_CHECK(x.dtype() == DType::kFloat32 && w.dtype() == DType::kFloat32 &&
                   y.dtype() == DType::kFloat32 && offsets.dtype() == DType::kInt64,
               operation, " wants float32 and int64 offsets: x ", x.dtype(), ", w ", w.dtype(),
               ", y ", y.dtype(), ", offsets ", offsets.dtype());
  FATHOM_CHECK(x.shape().rank() == 2 && w.shape().rank() == 3 && y.shape().rank() == 2 &&
                   offsets.shape().rank() == 1,
               operation, ": ranks of x ", x.shape(), ", w ", w.shape(), ", y ", y.shape(),
               ", offsets ", offsets.shape());
  FATHOM_CHECK(x.size(0) == y.size(0) && x.size(1) == w.size(2) && y.size(1) == w.size(1) &&
                   offsets.size(0) == w.size(0) + 1,
               operation, ": x ", x.shape(), ", w ", w.shape(), ", y ", y.shape(), ", offsets ",
               offsets.shape());
  if (offsets.device().type != DeviceType::kCpu) {
    return;  // their values are not ours to read
  }
  const auto values = offsets.values<std::int64_t>();
  FATHOM_CHECK(values.front() == 0 && values.back() == x.size(0), operation, ": offsets from ",
               values.front(), " to ", values.back(), " for ", x.size(0), " rows");
  for (std::size_t e = 1; e < values.size(); ++e) {
    FATHOM_CHECK(values[e - 1] <= values[e], operation, ": expert ", e - 1, " has rows from ",
                 values[e - 1], " to ", values[e]);
  }
}

}  // namespace

void grouped_matmul_forward(const Tensor& x, const Tensor& w, const Tensor& offsets, Tensor& y,
                            Stream& stream) {
  check_grouped("grouped_matmul_forward", x, w, offsets, y);
  grouped_matmul_forward_slot(stream, x, w, offsets, y);
}

void grouped_matmul_backward_input(const Tensor& dy, const Tensor& w, const Tensor& offsets,
                                   Tensor& dx, Stream& stream) {
  check_grouped("grouped_matmul_backward_input", dx, w, offsets, dy);
  grouped_matmul_backward_input_slot(stream, dy, w, offsets, dx);
}

void grouped_matmul_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& offsets,
                                    Tensor& dw, Accumulate accumulate, Stream& stream) {
  check_grouped("grouped_matmul_backward_weight", x, dw, offsets, dy);
  grouped_matmul_backward_weight_slot(stream, dy, x, offsets, dw, accumulate);
}

}  // namespace fathom::kernels
