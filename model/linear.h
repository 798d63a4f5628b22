#pragma once

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/matmul.h"
#include "parallel/parameter.h"

namespace fathom::model {

// y = x W^T without bias. W [out_size, in_size] is this rank's part of a published matrix; whoever
// holds the layer moves tokens and sums between ranks.
class Linear {
 public:
  // Chunks of this rank's part of W's columns (in) or rows (out), for the sums that run over a
  // dimension which tensor parallelism cuts; see kernels/matmul.h.
  struct Chunks {
    int in = 1;
    int out = 1;
  };

  Linear() = default;
  explicit Linear(parallel::Parameter weight, const Chunks& chunks = {1, 1})
      : weight_(std::move(weight)), chunks_(chunks) {
    weight_.num_matrices = 1;
  }

  // x [rows, >= in_size] -> [rows, out_size], of the dtype of x or of the given one, see
  // kernels/matmul.h
  Tensor forward(const Tensor& x, Stream& stream) const { return forward(x, x.dtype(), stream); }
  Tensor forward(const Tensor& x, DType y_dtype, Stream& stream) const;
  // dy [rows, out_size] -> [rows, in_size], of the dtype of W or of the given one
  Tensor backward_input(const Tensor& dy, Stream& stream) const {
    return backward_input(dy, weight_.value().dtype(), stream);
  }
  Tensor backward_input(const Tensor& dy, DType dx_dtype, Stream& stream) const;
  // The same into (or onto) the leading columns of dx.
  void backward_input(const Tensor& dy, Tensor& dx, kernels::Accumulate accumulate,
                      Stream& stream) const;
  // grad += dy^T x
  void backward_weight(const Tensor& dy, const Tensor& x, Stream& stream);

  parallel::Parameter& weight() noexcept { return weight_; }
  const parallel::Parameter& weight() const noexcept { return weight_; }
  std::int64_t in_size() const { return weight_.shape[1]; }
  std::int64_t out_size() const { return weight_.shape[0]; }

 private:
  parallel::Parameter weight_;
  Chunks chunks_;
};

}  // namespace fathom::model
