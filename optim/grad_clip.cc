#include "optim/grad_clip.h"

#include <cmath>
#include <vector>

#include "core/exact_sum.h"
#include "kernels/adamw.h"

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
  auto mine = std::vector<std::int64_t>();
  for (const std::int64_t limb : sum.to_integers()) {
    mine.push_back(limb);
  }
  mine.push_back(num_non_finite);
  mine.push_back(buffer.num_refused());
  std::vector<std::int64_t> all(mine.size() * static_cast<std::size_t>(world.world_size()));
  world.all_gather_integers(mine, all);
  std::vector<std::int64_t> total(mine.size(), 0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    total[i % mine.size()] += all[i];
  }
  GradientNorm result;
  result.num_refused = total.back();
  total.pop_back();
  result.num_non_finite = total.back();
  total.pop_back();
  result.norm = std::sqrt(ExactSum::from_integers(total).value());
  return result;
}

double clip_factor(double norm, double max_norm) {
  return max_norm > 0.0 && norm > max_norm ? max_norm / norm : 1.0;
}

}  // namespace fathom::optim
