#pragma once

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/elementwise.h"

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
  // dy through the identity plus the gradient that came through the branch, written over
  // `d_branch_input`.
  Tensor join_backward(const Tensor& dy, Tensor d_branch_input, Stream& stream) const {
    kernels::add_in_place(d_branch_input, dy, stream);
    return d_branch_input;
  }
};

}  // namespace fathom::model
