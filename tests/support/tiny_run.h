#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/pipelined_model.h"
#include "optim/optimizer.h"
#include "parallel/mesh.h"
#include "parallel/state_visitor.h"
#include "trainer/train_step.h"

namespace fathom::testing {

// One way to cut a small model over ranks.
struct Layout {
  parallel::MeshShape mesh;
  model::PipelineOptions pipeline;
  int micro_batch_size = 1;
  model::RecomputeOptions recompute;
  int threads = 1;
};
std::string to_string(const Layout& layout);

// Whole published tensors by key, row-major.
using Tensors = std::map<std::string, std::vector<float>>;

// A batch of B sequences of T tokens: tokens [B, T]; targets and masks [depth + 1, B, T].
struct TinyBatch {
  std::int64_t num_sequences = 0;
  std::int64_t sequence_length = 0;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> targets;
  std::vector<float> masks;
};

// Copies from whole tensors into this rank's slices; every slice must be there.
class LoadTensors final : public parallel::StateVisitor {
 public:
  explicit LoadTensors(const Tensors& tensors) : tensors_(&tensors) {}
  Access access() const noexcept override { return Access::kWrite; }
  void tensor(const parallel::StateSlice& slice, Tensor& local) override;
  void integer(const std::string&, std::int64_t&) override {}

 private:
  const Tensors* tensors_;
};

// Copies this rank's slices into whole tensors, which start as zeros; elements that nobody holds
// stay zero. Not thread-safe: a rank at a time.
class StoreTensors final : public parallel::StateVisitor {
 public:
  explicit StoreTensors(Tensors& tensors) : tensors_(&tensors) {}
  Access access() const noexcept override { return Access::kRead; }
  void tensor(const parallel::StateSlice& slice, Tensor& local) override;
  void integer(const std::string&, std::int64_t&) override {}

 private:
  Tensors* tensors_;
};

// A small model on one rank of a layout, with the trainer's own step.
class TinyRun {
 public:
  // Collective over `world`.
  TinyRun(const model::ModelOptions& options, const Layout& layout, parallel::Communicator& world,
          Stream& stream);

  // Weights and selection biases; absent biases stay zero.
  void load(const Tensors& tensors);
  // Loss weights: mask / count for the main loss, mtp_loss_weight / depth / count for MTP.
  trainer::StepResult step(const TinyBatch& batch, optim::Optimizer& optimizer,
                           const trainer::StepOptions& options, double mtp_loss_weight = 0.0);

  model::PipelinedModel& model() { return *model_; }
  const parallel::Mesh& mesh() const { return *mesh_; }
  // This data rank's micro-batches, and the global counts.
  std::vector<model::MicroBatch> micro_batches(const TinyBatch& batch, double mtp_loss_weight,
                                               trainer::TokenCounts& counts);

 private:
  Layout layout_;
  Stream* stream_;
  std::unique_ptr<parallel::Mesh> mesh_;
  std::unique_ptr<model::PipelinedModel> model_;
};

// Takes the reduced gradients of this rank's shards instead of updating anything.
class CaptureGradients final : public optim::Optimizer {
 public:
  CaptureGradients(parallel::ParameterBuffer& buffer, parallel::StateVisitor& visitor)
      : buffer_(&buffer), visitor_(&visitor) {}
  void step(double learning_rate, const Tensor& grad_scale, Stream& stream) override;
  void finish_step(bool) override {}
  void visit_state(parallel::StateVisitor&) override {}
  void values_drawn(Stream&) override {}
  void weights_loaded(Stream&) override {}

 private:
  parallel::ParameterBuffer* buffer_;
  parallel::StateVisitor* visitor_;
};

}  // namespace fathom::testing
