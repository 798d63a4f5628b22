#include "model/packed_weights.h"

#include "kernels/packed_matmul.h"

namespace fathom::model {
namespace {

// Weights of bfloat16 are CUDA's, on the meta device as well.
bool serves(const parallel::Parameter& parameter) {
  return parameter.num_matrices > 0 && parameter.value().device().type != DeviceType::kCuda &&
         parameter.value().dtype() == DType::kFloat32;
}

}  // namespace

PackedWeights::PackedWeights(PipelinedModel& model, Stream& stream) {
  model.for_each_main_parameter([&](parallel::Parameter& parameter) {
    if (!serves(parameter)) {
      return;
    }
    Tensor matrices = parameter.value();
    if (parameter.num_matrices > 1) {
      matrices = matrices.reshape(Shape{
          parameter.num_matrices, parameter.shape[0] / parameter.num_matrices, parameter.shape[1]});
    }
    parameter.packed =
        Tensor::empty(kernels::packed_shape(matrices.shape()), DType::kFloat32, stream);
    kernels::pack_weight(matrices, parameter.packed, stream);
    packed_.push_back(&parameter);
  });
}

PackedWeights::~PackedWeights() {
  for (parallel::Parameter* parameter : packed_) {
    parameter->packed = Tensor();
  }
}

}  // namespace fathom::model
