#pragma once

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/elementwise.h"
#include "model/rms_norm.h"

namespace fathom::model {

// How a branch joins the stream of hidden states: x + branch(norm(x)). A component of its own, so
// that another kind of connection can take its place.
class Residual {
 public:
  // branch + x, written over `branch`.
  Tensor join(const Tensor& x, Tensor branch, Stream& stream) const {
    kernels::add_in_place(branch, x, stream);
    return branch;
  }
  // The same and the norm that the next branch takes, in one pass; `branch` becomes the hidden
  // state. Returns its norm.
  Tensor join_and_norm(const Tensor& x, Tensor& branch, const RmsNorm& norm, Tensor& inv_rms,
                       Stream& stream) const {
    return norm.add_forward(x, branch, inv_rms, stream);
  }
  // Gradient of the hidden state x from which a branch went out: dy of where it joined, through the
  // identity, plus what came through the branch and its norm, d_norm.
  Tensor join_backward(const Tensor& dy, const Tensor& d_norm, RmsNorm& norm, const Tensor& x,
                       const Tensor& inv_rms, Stream& stream) const {
    return norm.add_backward(d_norm, x, inv_rms, dy, stream);
  }
};

}  // namespace fathom::model
