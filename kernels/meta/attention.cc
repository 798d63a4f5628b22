#include "kernels/attention.h"

#include <algorithm>

#include "kernels/cuda/attention_scratch.h"

namespace fathom::kernels {
namespace {

// Activations in bfloat16 are those of CUDA, whose attention has keys of each head, and their
// gradients, for itself, and what cuDNN's backward asks for in SumOrder::kFastest.
void attention_backward_meta(const AttentionShape& shape, const AttentionSaved& saved,
                             const Tensor& /*dout*/, Tensor& dq, Tensor& /*dkv*/,
                             Tensor& /*dlatent*/, Stream& stream) {
  if (dq.dtype() != DType::kBFloat16) {
    return;
  }
  const Tensor keys = Tensor::empty(dq.shape(), dq.dtype(), stream);
  const Tensor dkeys = Tensor::empty(dq.shape(), dq.dtype(), stream);
  const std::int64_t longest = saved.inputs.max_segment_tokens;
  if (stream.sum_order() == SumOrder::kFastest && shape.is_deterministic && longest > 0 &&
      cuda::fits_attention_scratch(shape.num_heads, longest)) {
    const std::int64_t tokens = cuda::ragged_batch_tokens(longest);
    const std::int64_t segments = std::min(cuda::segments_at_once(shape.num_heads, tokens),
                                           saved.inputs.segments.size(0) - 1);
    const std::int64_t bytes = segments * cuda::attention_scratch_bytes(shape.num_heads, tokens);
    const Tensor scratch =
        Tensor::empty(Shape{bytes / size_of(DType::kFloat32)}, DType::kFloat32, stream);
  }
}

const KernelRegistration register_backward(attention_backward_slot, DeviceType::kMeta,
                                           attention_backward_meta);

}  // namespace
}  // namespace fathom::kernels
