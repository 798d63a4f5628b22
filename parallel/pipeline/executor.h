#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/stream.h"
#include "core/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/pipeline/schedule.h"

namespace fathom::parallel {

// What the executor runs: a stage of the model, or a fake in tests. Each returns tensors of
// boundary_shape(micro_batch); the first stage ignores its input and returns an empty input
// gradient, the last ignores output_grad and returns an empty output.
class PipelineStage {
 public:
  virtual ~PipelineStage() = default;
  virtual Tensor forward(int micro_batch, const Tensor& input) = 0;
  virtual Tensor backward_input(int micro_batch, const Tensor& output_grad) = 0;
  virtual void backward_weight(int micro_batch) = 0;  // also frees what forward() saved
  // Both parts; a stage may interleave them layer by layer to free memory early.
  virtual Tensor backward(int micro_batch, const Tensor& output_grad) = 0;
  // Shape of the hidden states that enter this stage, to size the receive buffer.
  virtual Shape boundary_shape(int micro_batch) const = 0;
  // Of all that crosses a boundary, hidden states and their gradients.
  virtual DType boundary_dtype() const { return DType::kFloat32; }
};

// Carries out actions[rank of `pipeline`] of a schedule with communication. stages[stage] is null
// for stages of other ranks. The number of micro-batches is the schedule's. Returns when all of
// this rank's actions are done and all its sends have left.
void run(const Schedule& schedule, std::span<PipelineStage* const> stages, Communicator& pipeline,
         Stream& stream);

}  // namespace fathom::parallel
