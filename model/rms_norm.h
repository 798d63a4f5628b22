#pragma once

#include <string>

#include "core/stream.h"
#include "core/tensor.h"
#include "parallel/parameter.h"

namespace fathom::model {

// y = x / sqrt(mean(x^2) + eps) * gain over the leading columns of each row; see
// kernels/rms_norm.h.
class RmsNorm {
 public:
  RmsNorm() = default;
  // replicas: the ranks that hold the same gain and see other tokens.
  RmsNorm(const std::string& key, std::int64_t size, float epsilon,
          parallel::Communicator& replicas);

  Tensor forward(const Tensor& x, Tensor& inv_rms,
                 Stream& stream) const;  // allocates [rows, size] and inv_rms
  void forward(const Tensor& x, Tensor& y, Tensor& inv_rms, Stream& stream) const;
  // h += x, then the norm of h, in one pass.
  Tensor add_forward(const Tensor& x, Tensor& h, Tensor& inv_rms, Stream& stream) const;
  // dL/dx. These add to the gain's gradient too, so that rows are read once.
  Tensor backward(const Tensor& dy, const Tensor& x, const Tensor& inv_rms, Stream& stream);
  void backward(const Tensor& dy, const Tensor& x, const Tensor& inv_rms, Tensor& dx,
                Stream& stream);
  // dh plus what comes through the norm of h.
  Tensor add_backward(const Tensor& dy, const Tensor& h, const Tensor& inv_rms, const Tensor& dh,
                      Stream& stream);

  parallel::Parameter& gain() noexcept { return gain_; }
  std::int64_t size() const { return gain_.shape[0]; }

 private:
  parallel::Parameter gain_;
  float epsilon_ = 1e-6F;
};

}  // namespace fathom::model
