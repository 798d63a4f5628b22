#pragma once

#include <functional>
#include <vector>

#include "core/stream.h"
#include "core/tensor.h"
#include "parallel/parameter_buffer.h"
#include "parallel/state_visitor.h"

namespace fathom::rl {

// Frozen weights beside those that are trained: the policy that the divergence is measured from.
// Each replica keeps its own shard, so that they take a share of the memory of the weights.
class ReferencePolicy {
 public:
  // Allocates; the weights are set by refresh() or a checkpoint. `parameters` outlives it.
  ReferencePolicy(parallel::ParameterBuffer& parameters, Stream& stream);

  // The reference becomes the current policy.
  void refresh();
  // Runs `body` with the reference in place of the current weights. Collective.
  void run(const std::function<void()>& body);
  // The shards under the published names with ".reference" after them, as float32 whatever the
  // weights are, so that a run may go on on another device.
  void visit_state(parallel::StateVisitor& visitor);

 private:
  void exchange();

  parallel::ParameterBuffer* parameters_;
  Stream* stream_;
  std::vector<Tensor> shards_;  // by group; the current weights' while run() is at work
};

}  // namespace fathom::rl
