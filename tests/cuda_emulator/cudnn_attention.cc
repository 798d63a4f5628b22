// The emulated device has no cuDNN: attention takes the own kernels there.

#include "kernels/cuda/cudnn_attention.h"

#include "core/error.h"

namespace fathom::kernels::cuda {

bool cudnn_supports(const ExpandedAttention& /*attention*/) { return false; }

bool cudnn_supports_backward(const ExpandedAttention& /*attention*/) { return false; }

void cudnn_attention_forward(const ExpandedAttention& /*attention*/, Tensor& /*out*/,
                             Tensor& /*lse*/, Stream& /*stream*/) {
  throw InternalError("the emulated device has no cuDNN");
}
void cudnn_attention_backward(const ExpandedAttention& /*attention*/,
                              const ExpandedResult& /*result*/, const Tensor& /*dout*/,
                              const ExpandedGradients& /*gradients*/, Stream& /*stream*/) {
  throw InternalError("the emulated device has no cuDNN");
}

}  // namespace fathom::kernels::cuda
