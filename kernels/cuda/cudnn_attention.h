#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/cuda/expanded_attention.h"

namespace fathom::kernels::cuda {

// cuDNN's fused attention: SDPA graphs of its frontend. Plans are kept per stream, one for each
// shape; the first call of a shape compiles it, which takes seconds and must not happen while a
// CUDA graph is captured.

// Whether it computes this call's forward: bfloat16, parts of rows and addresses of
// whole 16 bytes, heads of up to 256 numbers, some segment of two tokens.
bool cudnn_supports(const ExpandedAttention& attention);
// And its backward: the same, but not where a segment is so long that the deterministic backward's
// scratch would not be bearable (kernels/cuda/attention_scratch.h).
bool cudnn_supports_backward(const ExpandedAttention& attention);

// Segments of one length are a batch; others are given by offsets that a kernel makes, as a ragged
// batch that is filled up with empty segments to a power of two, of a length that is rounded up to
// one, so that few plans serve all micro-batches. Throw DeviceError with cuDNN's words.
void cudnn_attention_forward(const ExpandedAttention& attention, Tensor& out, Tensor& lse,
                             Stream& stream);
// The deterministic backward goes over the segments in parts, segments_at_once() in each.
void cudnn_attention_backward(const ExpandedAttention& attention, const ExpandedResult& result,
                              const Tensor& dout, const ExpandedGradients& gradients,
                              Stream& stream);

// What one plan is made for.
struct CudnnAttentionPlan {
  bool is_backward = false;
  bool is_deterministic = true;  // the backward
  bool is_ragged = false;
  std::int64_t num_batches = 0;
  std::int64_t batch_tokens = 0;  // of each batch; the longest of ragged ones
  std::int64_t num_tokens = 0;    // of all ragged ones
  std::int64_t num_heads = 0;
  std::int64_t key_size = 0;
  std::int64_t value_size = 0;
  std::int64_t value_head_stride = 0;  // elements from a head's values to the next one's
  float scale = 1.0F;
  auto operator<=>(const CudnnAttentionPlan&) const = default;
};
// Why cuDNN has no engine for a plan on the device that `device_properties` describes (the JSON of
// its device property descriptor), in its own words; empty when it has one. Needs libcuda, but no
// device.
std::string why_cudnn_refuses(const CudnnAttentionPlan& plan, const std::string& device_properties);

}  // namespace fathom::kernels::cuda
