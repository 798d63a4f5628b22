#include "kernels/rms_norm.h"

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, const Tensor&, float, Tensor&, Tensor&, Stream&)>
    rms_norm_forward_slot{"rms_norm_forward"};
constinit KernelSlot<void(const Tensor&, Tensor&, const Tensor&, float, Tensor&, Tensor&, Stream&)>
    add_rms_norm_forward_slot{"add_rms_norm_forward"};
constinit KernelSlot<void(const Tensor&, const RmsNormInputs&, const Tensor*, Tensor&, GradientSum&,
                          Stream&)>
    rms_norm_backward_slot{"rms_norm_backward"};

namespace {

// Returns the dtype of the activations.
DType check_norm(const TensorCheck& check, const RmsNormInputs& norm) {
  const auto& [x, gain, inv_rms] = norm;
  check.rank("x", x, 2);
  check.rank("gain", gain, 1);
  FATHOM_CHECK(gain.size(0) >= 1, "gain of ", gain.size(0));
  const DType dtype = check.activation_dtype("x", x);
  check.rows("x", x, x.size(0), gain.size(0), dtype);
  check.shape("inv_rms", inv_rms, Shape{x.size(0)});
  check.dtype_and_device("gain", gain, dtype);
  return dtype;
}

DType check_backward(const TensorCheck& check, const Tensor& dy, const RmsNormInputs& norm,
                     const Tensor& dx, const GradientSum& gain_grad) {
  const DType dtype = check_norm(check, norm);
  const std::int64_t num_tokens = norm.x.size(0);
  check.rows("dy", dy, num_tokens, norm.gain.size(0), dtype);
  check.rows("dx", dx, num_tokens, norm.gain.size(0), dtype);
  check_gradient(check, "gain_grad", gain_grad, norm.gain.shape(), num_tokens);
  return dtype;
}

}  // namespace

void rms_norm_forward(const Tensor& x, const Tensor& gain, float eps, Tensor& y, Tensor& inv_rms,
                      Stream& stream) {
  const TensorCheck check("rms_norm_forward", stream);
  const DType dtype = check_norm(check, {x, gain, inv_rms});
  check.rows("y", y, x.size(0), gain.size(0), dtype);
  rms_norm_forward_slot(stream, x, gain, eps, y, inv_rms);
}

void add_rms_norm_forward(const Tensor& x, Tensor& h, const Tensor& gain, float eps, Tensor& y,
                          Tensor& inv_rms, Stream& stream) {
  const TensorCheck check("add_rms_norm_forward", stream);
  const DType dtype = check_norm(check, {x, gain, inv_rms});
  check.rows("h", h, x.size(0), gain.size(0), dtype);
  check.rows("y", y, x.size(0), gain.size(0), dtype);
  add_rms_norm_forward_slot(stream, x, h, gain, eps, y, inv_rms);
}

void rms_norm_backward(const Tensor& dy, const RmsNormInputs& norm, Tensor& dx,
                       GradientSum& gain_grad, Stream& stream) {
  const TensorCheck check("rms_norm_backward", stream);
  check_backward(check, dy, norm, dx, gain_grad);
  rms_norm_backward_slot(stream, dy, norm, nullptr, dx, gain_grad);
  gain_grad.is_empty = false;
}

void add_rms_norm_backward(const Tensor& dy, const RmsNormInputs& norm, const Tensor& dh,
                           Tensor& dx, GradientSum& gain_grad, Stream& stream) {
  const TensorCheck check("add_rms_norm_backward", stream);
  const DType dtype = check_backward(check, dy, norm, dx, gain_grad);
  check.rows("dh", dh, dy.size(0), norm.gain.size(0), dtype);
  rms_norm_backward_slot(stream, dy, norm, &dh, dx, gain_grad);
  gain_grad.is_empty = false;
}

}  // namespace fathom::kernels
