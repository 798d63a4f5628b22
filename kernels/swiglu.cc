#include "kernels/swiglu.h"

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, Tensor&, Stream&)> swiglu_forward_slot{"swiglu_forward"};
constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Stream&)> swiglu_backward_slot{
    "swiglu_backward"};

void swiglu_forward(const Tensor& gate_up, Tensor& y, Stream& stream) {
  const TensorCheck check("swiglu_forward", stream);
  check.rank("y", y, 2);
  check.shape("gate_up", gate_up, Shape{y.size(0), 2 * y.size(1)}, check.activation_dtype("y", y));
  swiglu_forward_slot(stream, gate_up, y);
}

void swiglu_backward(const Tensor& dy, const Tensor& gate_up, Tensor& d_gate_up, Stream& stream) {
  const TensorCheck check("swiglu_backward", stream);
  check.rank("dy", dy, 2);
  const DType dtype = check.activation_dtype("dy", dy);
  check.shape("gate_up", gate_up, Shape{dy.size(0), 2 * dy.size(1)}, dtype);
  check.shape("d_gate_up", d_gate_up, gate_up.shape(), dtype);
  swiglu_backward_slot(stream, dy, gate_up, d_gate_up);
}

}  // namespace fathom::kernels
