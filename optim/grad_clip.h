#pragma once

#include <cstdint>

#include "core/stream.h"
#include "parallel/comm/communicator.h"
#include "parallel/parameter_buffer.h"

namespace fathom::optim {

struct GradientNorm {
  double norm = 0.0;  // sqrt(sum of squares) over every parameter of the model, each counted once
  std::int64_t num_non_finite = 0;  // elements that are NaN or Inf, in the whole job
  // Contributions that integer sums left out, in the whole job: NaN, Inf or too large.
  std::int64_t num_refused = 0;
};

// The global norm of the reduced gradients over all axes, exact and so the same on every layout up
// to the gradients themselves. Collective over `world`, which is every rank of the job.
GradientNorm gradient_norm(parallel::ParameterBuffer& buffer, parallel::Communicator& world,
                           Stream& stream);

// min(1, max_norm / norm); 1 when max_norm is 0.        arXiv:1211.5063
double clip_factor(double norm, double max_norm);

}  // namespace fathom::optim
