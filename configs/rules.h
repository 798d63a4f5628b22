#pragma once

// The parts of validate(): each adds what is wrong in its own messages. Not for use outside
// configs/.

#include <cstdint>
#include <string_view>

#include "configs/problems.h"
#include "configs/schema/run.pb.h"

namespace fathom::config {

// Sizes fit an int32, so that products of two fit an int64.
inline constexpr std::int64_t kMaxSize = 2147483647;

// A number that must be given and be in [1, kMaxSize].
bool require_size(Problems& problems, std::string_view field, std::int64_t value);
// a x b, or 0 where one of the two is not in [1, kMaxSize]: that is reported as such.
std::int64_t product_of_sizes(std::int64_t a, std::int64_t b) noexcept;
bool require_not_negative(Problems& problems, std::string_view field, double value);
bool require_positive(Problems& problems, std::string_view field, double value);
// "mesh.tensor (3) does not divide model.num_attention_heads (32)". Says nothing when one of the
// two is not positive: that is reported as such.
void require_divides(Problems& problems, std::string_view divisor_name, std::int64_t divisor,
                     std::string_view field, std::int64_t value);

// The same for every size of the model that tensor parallelism cuts.
void require_divides_tensor_sizes(Problems& problems, std::string_view divisor_name,
                                  std::int64_t divisor, const Model& model);

void check_model(const Model& model, Problems& problems);
// Mesh against ranks and model.
void check_layout(const RunConfig& config, int world_size, Problems& problems);
// The global batch in whole micro-batches on every replica.
void check_global_batch(const RunConfig& config, Problems& problems);
void check_train(const RunConfig& config, Problems& problems);
void check_optimizer(const Optimizer& optimizer, Problems& problems);
void check_numerics(const RunConfig& config, Problems& problems);
// Problems, rewards, objective and rollout.
void check_reinforcement(const RunConfig& config, Problems& problems);

}  // namespace fathom::config
