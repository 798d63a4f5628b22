#include "kernels/fill_normal.h"

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const NormalNumbers&, Tensor&, Stream&)> fill_normal_slot{"fill_normal"};

void fill_normal(const NormalNumbers& numbers, Tensor& x, Stream& stream) {
  const TensorCheck check("fill_normal", stream);
  check.rank("x", x, 2);
  check.dtype_and_device("x", x,
                         x.dtype() == DType::kBFloat16 ? DType::kBFloat16 : DType::kFloat32);
  fill_normal_slot(stream, numbers, x);
}

}  // namespace fathom::kernels
