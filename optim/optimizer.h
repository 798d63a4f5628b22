#pragma once

#include "core/stream.h"
#include "parallel/state_visitor.h"

namespace fathom::optim {

// Updates the value shards of a ParameterBuffer from its gradient shards. It sees parameters, never
// layers.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // One update from the reduced gradients times grad_scale (the clip factor). Afterwards the
  // owners' value shards are new; the caller gathers them.
  virtual void step(double learning_rate, double grad_scale, Stream& stream) = 0;
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
