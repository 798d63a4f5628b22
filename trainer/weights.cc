#include "trainer/weights.h"

#include <optional>

#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "kernels/elementwise.h"
#include "optim/factory.h"
#include "parallel/comm/agree.h"
#include "parallel/float32_state.h"
#include "parallel/host_state.h"
#include "trainer/checkpoint/catalog.h"

namespace fathom::trainer {
namespace {

// Passes on what a published model consists of: tensors without the suffix of an optimizer state.
class WeightsOnly final : public parallel::StateVisitor {
 public:
  explicit WeightsOnly(parallel::StateVisitor& visitor) : visitor_(&visitor) {}
  Access access() const noexcept override { return visitor_->access(); }
  void tensor(const parallel::StateSlice& slice, Tensor& local) override {
    if (slice.key.ends_with(".weight") || slice.key.ends_with(".e_score_correction_bias")) {
      visitor_->tensor(slice, local);
    }
  }
  void integer(const std::string&, std::int64_t&) override {}

 private:
  parallel::StateVisitor* visitor_;
};

std::filesystem::path require_checkpoint(const std::filesystem::path& path) {
  const std::optional<std::filesystem::path> found = find_checkpoint(path);
  if (!found || !step_of_folder(found->filename().string())) {
    throw ConfigError(concat("train.init_from: ", path.string(),
                             " is not a checkpoint folder, nor a run folder that has one; name one "
                             "like RUN/checkpoints/step-00001000"));
  }
  return *found;
}

}  // namespace

CheckpointIdentity load_weights(const std::filesystem::path& checkpoint, const VisitState& state,
                                const CheckpointIdentity& expected, parallel::Communicator& world) {
  std::filesystem::path folder;
  parallel::agree(world, [&] { folder = require_checkpoint(checkpoint); });
  CheckpointOptions options;
  options.root = folder.parent_path();
  return load_checkpoint(
      options, *step_of_folder(folder.filename().string()),
      [&](parallel::StateVisitor& visitor) {
        WeightsOnly weights(visitor);
        state(weights);
      },
      expected, world, LoadScope::kPart);
}

void load_model(const std::filesystem::path& checkpoint, const config::RunConfig& config,
                const CheckpointIdentity& expected, model::PipelinedModel& model,
                const parallel::Mesh& mesh, Stream& stream) {
  load_weights(
      checkpoint,
      [&](parallel::StateVisitor& visitor) {
        parallel::HostState host(visitor, stream);
        parallel::Float32State values(host, stream);  // as checkpoints hold them
        for (const parallel::ParameterGroup& group : model.parameters().groups()) {
          for (parallel::Parameter* parameter : group.parameters) {
            const std::int64_t size = parameter->shape.numel();
            parallel::visit_range({parameter, 0, size, 0}, parameter->value().reshape(Shape{size}),
                                  "", false, values);
          }
        }
        model.visit_state(values);
      },
      expected, mesh.world());
  const DType dtype = optim::make_dtype(config.optimizer().parameter_dtype());
  for (parallel::ParameterGroup& group : model.parameters().groups()) {
    if (dtype == group.values.dtype()) {
      continue;
    }
    Tensor rounded = Tensor::empty(group.values.shape(), dtype, stream);
    kernels::convert(group.values, rounded, stream);
    kernels::convert(rounded, group.values, stream);
  }
}

}  // namespace fathom::trainer
