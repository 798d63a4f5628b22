#include <numeric>
#include <string>

#include "configs/rules.h"

namespace fathom::config {
namespace {

constexpr std::int64_t kMaxAxis = 65536;  // so that the product of three axes fits an int64

bool check_axis(std::string_view name, std::int64_t size, Problems& problems) {
  return problems.require(size >= 1 && size <= kMaxAxis, name, " (", size, ") is not in [1, ",
                          kMaxAxis, ']');
}

// False when an axis has no sensible size, so that nothing more can be said.
bool check_axes(const Mesh& mesh, int world_size, Problems& problems) {
  bool sensible = check_axis("mesh.pipeline", mesh.pipeline(), problems);
  sensible = check_axis("mesh.tensor", mesh.tensor(), problems) && sensible;
  sensible = check_axis("mesh.expert", mesh.expert(), problems) && sensible;
  sensible = check_axis("mesh.stages_per_rank", mesh.stages_per_rank(), problems) && sensible;
  if (!sensible) {
    return false;
  }
  problems.require(mesh.group_elements() >= 0, "mesh.group_elements (", mesh.group_elements(),
                   ") is a number of weights, or 0");
  problems.require(mesh.assumed_imbalance() >= 1, "mesh.assumed_imbalance (",
                   mesh.assumed_imbalance(), ") must be at least 1");
  const std::int64_t others = std::int64_t{mesh.pipeline()} * mesh.tensor();
  if (mesh.data() == 0) {
    problems.add("mesh.pipeline (", mesh.pipeline(), ") x mesh.tensor (", mesh.tensor(),
                 ") = ", others, " does not divide the number of ranks (", world_size, ')');
    return false;
  }
  if (!check_axis("mesh.data", mesh.data(), problems)) {
    return false;
  }
  problems.require(world_size == 0 || others * mesh.data() == world_size, "mesh.pipeline (",
                   mesh.pipeline(), ") x mesh.data (", mesh.data(), ") x mesh.tensor (",
                   mesh.tensor(), ") = ", others * mesh.data(), ", but the number of ranks is ",
                   world_size);
  return true;
}

void check_expert_axis(const RunConfig& config, Problems& problems) {
  const Mesh& mesh = config.mesh();
  const std::int64_t plane = std::int64_t{mesh.data()} * mesh.tensor();
  problems.require(plane % mesh.expert() == 0, "mesh.expert (", mesh.expert(),
                   ") does not divide mesh.data (", mesh.data(), ") x mesh.tensor (", mesh.tensor(),
                   ") = ", plane);
  if (mesh.expert() > 1 && problems.require(config.model().has_moe(), "mesh.expert (",
                                            mesh.expert(), ") needs model.moe")) {
    require_divides(problems, "mesh.expert", mesh.expert(), "model.moe.num_experts",
                    config.model().moe().num_experts());
  }
}

void check_tensor_axis(const RunConfig& config, Problems& problems) {
  const std::int64_t tensor = config.mesh().tensor();
  require_divides_tensor_sizes(problems, "mesh.tensor", tensor, config.model());
  require_divides(
      problems, "mesh.tensor", tensor, "train.micro_batch_size x train.sequence_length",
      product_of_sizes(config.train().micro_batch_size(), config.train().sequence_length()));
}

// Of a list that is given.
void check_layers_per_stage(const RunConfig& config, std::int64_t num_stages,
                            const std::string& product, Problems& problems) {
  const auto& layers = config.mesh().layers_per_stage();
  problems.require(layers.size() == num_stages, "mesh.layers_per_stage lists ", layers.size(),
                   " stages, but ", product, " = ", num_stages);
  const std::int64_t sum = std::accumulate(layers.begin(), layers.end(), std::int64_t{0});
  problems.require(sum == config.model().num_layers(), "mesh.layers_per_stage adds up to ", sum,
                   ", but model.num_layers is ", config.model().num_layers());
  for (int i = 0; i < layers.size(); ++i) {
    problems.require(layers[i] >= 0, "mesh.layers_per_stage[", i, "] (", layers[i],
                     ") must not be negative");
  }
}

void check_stages(const RunConfig& config, Problems& problems) {
  const Mesh& mesh = config.mesh();
  const std::int64_t num_stages = std::int64_t{mesh.pipeline()} * mesh.stages_per_rank();
  const std::int64_t num_layers = config.model().num_layers();
  const std::string product = concat("mesh.pipeline (", mesh.pipeline(),
                                     ") x mesh.stages_per_rank (", mesh.stages_per_rank(), ")");
  problems.require(mesh.stages_per_rank() == 1 || mesh.pipeline() > 1, "mesh.stages_per_rank (",
                   mesh.stages_per_rank(), ") above 1 needs mesh.pipeline (", mesh.pipeline(),
                   ") above 1");
  if (num_layers <= 0) {
    return;
  }
  // The last stage may have the head alone.
  if (problems.require(num_stages <= num_layers + 1, product, " = ", num_stages,
                       " stages, but model.num_layers is ", num_layers) &&
      !mesh.layers_per_stage().empty()) {
    check_layers_per_stage(config, num_stages, product, problems);
  }
}

// The global batch in whole micro-batches on every replica, and for an interleaved schedule in
// whole rounds.
void check_batch(const RunConfig& config, std::string_view field, std::int64_t batch,
                 Problems& problems) {
  const Mesh& mesh = config.mesh();
  const std::int64_t micro_batch = config.train().micro_batch_size();
  const std::int64_t replicas = product_of_sizes(micro_batch, mesh.data());
  if (batch <= 0 || replicas <= 0) {
    return;
  }
  if (!problems.require(batch % replicas == 0, field, " (", batch,
                        ") is not a multiple of train.micro_batch_size (", micro_batch,
                        ") x mesh.data (", mesh.data(), ") = ", replicas)) {
    return;
  }
  problems.require(mesh.stages_per_rank() == 1 || (batch / replicas) % mesh.pipeline() == 0,
                   "mesh.stages_per_rank (", mesh.stages_per_rank(),
                   ") needs the micro-batches of a step (", field, ": ", batch / replicas,
                   ") to be a multiple of mesh.pipeline (", mesh.pipeline(), ')');
}

}  // namespace

void check_layout(const RunConfig& config, int world_size, Problems& problems) {
  if (!check_axes(config.mesh(), world_size, problems)) {
    return;
  }
  check_expert_axis(config, problems);
  check_tensor_axis(config, problems);
  check_stages(config, problems);
}

void check_global_batch(const RunConfig& config, Problems& problems) {
  if (config.mesh().data() < 1 || config.mesh().pipeline() < 1) {
    return;  // reported already
  }
  check_batch(config, "train.global_batch_size", config.train().global_batch_size(), problems);
  check_batch(config, "train.batch_ramp.start_global_batch_size",
              config.train().batch_ramp().start_global_batch_size(), problems);
  if (config.train().batch_ramp().increment() !=
      config.train().batch_ramp().start_global_batch_size()) {
    check_batch(config, "train.batch_ramp.increment", config.train().batch_ramp().increment(),
                problems);
  }
}

}  // namespace fathom::config
