#include "model/rms_norm.h"

#include "kernels/rms_norm.h"

namespace fathom::model {

RmsNorm::RmsNorm(const std::string& key, std::int64_t size, float epsilon,
                 parallel::Communicator& replicas)
    : gain_(parallel::whole_parameter(key, Shape{size}, replicas)), epsilon_(epsilon) {
  gain_.initial_value = parallel::InitialValue::kOnes;
}

Tensor RmsNorm::forward(const Tensor& x, Tensor& inv_rms, Stream& stream) const {
  Tensor y = Tensor::empty(Shape{x.size(0), size()}, x.dtype(), stream);
  forward(x, y, inv_rms, stream);
  return y;
}

void RmsNorm::forward(const Tensor& x, Tensor& y, Tensor& inv_rms, Stream& stream) const {
  inv_rms = Tensor::empty(Shape{x.size(0)}, DType::kFloat32, stream);
  kernels::rms_norm_forward(x, gain_.value(), epsilon_, y, inv_rms, stream);
}

Tensor RmsNorm::add_forward(const Tensor& x, Tensor& h, Tensor& inv_rms, Stream& stream) const {
  Tensor y = Tensor::empty(Shape{h.size(0), size()}, h.dtype(), stream);
  inv_rms = Tensor::empty(Shape{h.size(0)}, DType::kFloat32, stream);
  kernels::add_rms_norm_forward(x, h, gain_.value(), epsilon_, y, inv_rms, stream);
  return y;
}

Tensor RmsNorm::backward(const Tensor& dy, const Tensor& x, const Tensor& inv_rms, Stream& stream) {
  Tensor dx = Tensor::empty(Shape{x.size(0), size()}, x.dtype(), stream);
  backward(dy, x, inv_rms, dx, stream);
  return dx;
}

void RmsNorm::backward(const Tensor& dy, const Tensor& x, const Tensor& inv_rms, Tensor& dx,
                       Stream& stream) {
  kernels::rms_norm_backward(dy, {x, gain_.value(), inv_rms}, dx, gain_.grad, stream);
}

Tensor RmsNorm::add_backward(const Tensor& dy, const Tensor& h, const Tensor& inv_rms,
                             const Tensor& dh, Stream& stream) {
  Tensor dx = Tensor::empty(Shape{h.size(0), size()}, h.dtype(), stream);
  kernels::add_rms_norm_backward(dy, {h, gain_.value(), inv_rms}, dh, dx, gain_.grad, stream);
  return dx;
}

}  // namespace fathom::model
