#include "optim/grad_clip.h"

#include <array>
#include <cmath>
#include <span>
#include <vector>

#include "core/exact_sum.h"
#include "kernels/adamw.h"
#include "parallel/comm/sums.h"

namespace fathom::optim {

GradientNorm gradient_norm(parallel::ParameterBuffer& buffer, parallel::Communicator& world,
                           Stream& stream) {
  ExactSum sum;
  std::int64_t num_non_finite = 0;
  for (const parallel::ParameterGroup& group : buffer.groups()) {
    // Shards partition a group over its replicas, so that summing them over the job counts each
    // element once.
    kernels::sum_of_squares(group.gradient_shard, sum, num_non_finite, stream);
  }
  const std::vector<std::int64_t> counts = parallel::sum_integers(
      std::array<std::int64_t, 2>{num_non_finite, buffer.num_refused(stream)}, world);
  GradientNorm result;
  result.num_non_finite = counts[0];
  result.num_refused = counts[1];
  result.norm = std::sqrt(parallel::sum_exactly(std::span(&sum, 1), world)[0]);
  return result;
}

double clip_factor(double norm, double max_norm) {
  return max_norm > 0.0 && norm > max_norm ? max_norm / norm : 1.0;
}

}  // namespace fathom::optim
