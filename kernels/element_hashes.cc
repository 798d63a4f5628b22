#include "kernels/element_hashes.h"

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const IndexedElements&, const Tensor&, Tensor&, Stream&)>
    add_element_hashes_slot{"add_element_hashes"};

void add_element_hashes(const IndexedElements& elements, const Tensor& x, Tensor& sum,
                        Stream& stream) {
  const TensorCheck check("add_element_hashes", stream);
  check.rank("x", x, 2);
  check.dtype_and_device("x", x, x.dtype());
  check.shape("sum", sum, Shape{1}, DType::kInt64);
  add_element_hashes_slot(stream, elements, x, sum);
}

}  // namespace fathom::kernels
