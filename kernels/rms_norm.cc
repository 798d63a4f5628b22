#include "kernels/rms_norm.h"

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, const Tensor&, float, Tensor&, Tensor&, Stream&)>
    rms_norm_forward_slot{"rms_norm_forward"};
constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, const Tensor&, Tensor&,
                          Stream&)>
    rms_norm_backward_input_slot{"rms_norm_backward_input"};
constinit KernelSlot<void(const Tensor&, Tensor&, const Tensor&, float, Tensor&, Tensor&, Stream&)>
    add_rms_norm_forward_slot{"add_rms_norm_forward"};
constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                          Tensor&, Stream&)>
    add_rms_norm_backward_input_slot{"add_rms_norm_backward_input"};
constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, GradientSum&, Stream&)>
    rms_norm_backward_gain_slot{"rms_norm_backward_gain"};

namespace {

// x [num_tokens, >= hidden_size], inv_rms [num_tokens]. Returns the dtype of the activations.
DType check_rows(const TensorCheck& check, const Tensor& x, std::int64_t hidden_size,
                 const Tensor& inv_rms) {
  FATHOM_CHECK(hidden_size >= 1, "gain of ", hidden_size);
  check.rank("x", x, 2);
  const DType dtype = check.activation_dtype("x", x);
  check.rows("x", x, x.size(0), hidden_size, dtype);
  check.shape("inv_rms", inv_rms, Shape{x.size(0)});
  return dtype;
}

DType check_norm(const TensorCheck& check, const Tensor& x, const Tensor& gain,
                 const Tensor& inv_rms) {
  check.rank("gain", gain, 1);
  const DType dtype = check_rows(check, x, gain.size(0), inv_rms);
  check.dtype_and_device("gain", gain, dtype);
  return dtype;
}

}  // namespace

void rms_norm_forward(const Tensor& x, const Tensor& gain, float eps, Tensor& y, Tensor& inv_rms,
                      Stream& stream) {
  const TensorCheck check("rms_norm_forward", stream);
  const DType dtype = check_norm(check, x, gain, inv_rms);
  check.rows("y", y, x.size(0), gain.size(0), dtype);
  rms_norm_forward_slot(stream, x, gain, eps, y, inv_rms);
}

void rms_norm_backward_input(const Tensor& dy, const Tensor& x, const Tensor& gain,
                             const Tensor& inv_rms, Tensor& dx, Stream& stream) {
  const TensorCheck check("rms_norm_backward_input", stream);
  const DType dtype = check_norm(check, x, gain, inv_rms);
  check.rows("dy", dy, x.size(0), gain.size(0), dtype);
  check.rows("dx", dx, x.size(0), gain.size(0), dtype);
  rms_norm_backward_input_slot(stream, dy, x, gain, inv_rms, dx);
}

void add_rms_norm_forward(const Tensor& x, Tensor& h, const Tensor& gain, float eps, Tensor& y,
                          Tensor& inv_rms, Stream& stream) {
  const TensorCheck check("add_rms_norm_forward", stream);
  const DType dtype = check_norm(check, x, gain, inv_rms);
  check.rows("h", h, x.size(0), gain.size(0), dtype);
  check.rows("y", y, x.size(0), gain.size(0), dtype);
  add_rms_norm_forward_slot(stream, x, h, gain, eps, y, inv_rms);
}

void add_rms_norm_backward_input(const Tensor& dy, const Tensor& h, const Tensor& gain,
                                 const Tensor& inv_rms, const Tensor& dh, Tensor& dx,
                                 Stream& stream) {
  const TensorCheck check("add_rms_norm_backward_input", stream);
  const DType dtype = check_norm(check, h, gain, inv_rms);
  check.rows("dy", dy, h.size(0), gain.size(0), dtype);
  check.rows("dh", dh, h.size(0), gain.size(0), dtype);
  check.rows("dx", dx, h.size(0), gain.size(0), dtype);
  add_rms_norm_backward_input_slot(stream, dy, h, gain, inv_rms, dh, dx);
}

void rms_norm_backward_gain(const Tensor& dy, const Tensor& x, const Tensor& inv_rms,
                            GradientSum& gain_grad, Stream& stream) {
  const TensorCheck check("rms_norm_backward_gain", stream);
  const std::int64_t hidden_size = gain_grad.sum.numel();
  check_gradient(check, "gain_grad", gain_grad, Shape{hidden_size}, x.size(0));
  check.rows("dy", dy, x.size(0), hidden_size, check_rows(check, x, hidden_size, inv_rms));
  rms_norm_backward_gain_slot(stream, dy, x, inv_rms, gain_grad);
  gain_grad.is_empty = false;
}

}  // namespace fathom::kernels
