#pragma once

#include <vector>

#include "core/stream.h"
#include "model/pipelined_model.h"
#include "parallel/parameter.h"

namespace fathom::model {

// While it lives, forward passes of few rows multiply by a second copy of the main model's
// matrices, arranged for that (kernels/packed_matmul.h): the same bits, sooner. As many bytes as
// the matrices themselves. The weights must not change meanwhile. On CUDA it does nothing: the
// ordinary products serve there.
class PackedWeights {
 public:
  // The model outlives it.
  PackedWeights(PipelinedModel& model, Stream& stream);
  ~PackedWeights();
  PackedWeights(const PackedWeights&) = delete;
  PackedWeights& operator=(const PackedWeights&) = delete;

 private:
  std::vector<parallel::Parameter*> packed_;
};

}  // namespace fathom::model
