#pragma once

#include "core/stream.h"
#include "parallel/state_visitor.h"

namespace fathom::optim {

// Updates the value shards of a ParameterBuffer from its gradient shards. It sees parameters, never
// layers.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // One update from the reduced gradients times grad_scale, [1] float32 on the device: the clip
  // factor, or NaN, which leaves everything as it is (kernels/gradient_norm.h). Afterwards the
  // owners' value shards are new; the caller gathers them. Nothing waits for the device: once the
  // caller knows what the scale was, it calls finish_step().
  virtual void step(double learning_rate, const Tensor& grad_scale, Stream& stream) = 0;
  // was_update: the scale of the last step() was no NaN.
  virtual void finish_step(bool was_update) = 0;
  // Weights and optimizer states of this rank's shards, under the published names: the values as
  // float32 without a suffix (the master copy where there is one), each state with a suffix of its
  // own.
  virtual void visit_state(parallel::StateVisitor& visitor) = 0;
  // To be called after the model drew initial values: a master copy starts from them.
  virtual void values_drawn(Stream& stream) = 0;
  // To be called after a visitor has written the weights: brings the values of all replicas in
  // line.
  virtual void weights_loaded(Stream& stream) = 0;
};

}  // namespace fathom::optim
