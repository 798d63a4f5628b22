#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace fathom::kernels::cuda {

// The length that a ragged batch is planned for: so few that few plans are built.
constexpr std::int64_t ragged_batch_tokens(std::int64_t longest_segment) {
  constexpr std::int64_t kMinTokens = 128;
  return static_cast<std::int64_t>(
      std::bit_ceil(static_cast<std::uint64_t>(std::max(kMinTokens, longest_segment))));
}

// What cuDNN's deterministic backward of attention takes beside its tensors: the gradients of a
// segment's scores in bfloat16, 2 bytes for each head, query and key. It grows as the square of
// the segment: 4 GiB for 128 heads of 4,096 tokens, 1 TiB for 16 of 131,072.
constexpr std::int64_t attention_scratch_bytes(std::int64_t num_heads, std::int64_t batch_tokens) {
  constexpr std::int64_t kPadding = 64;
  const std::int64_t padded = (batch_tokens + kPadding - 1) / kPadding * kPadding;
  return 2 * num_heads * padded * padded;
}

// Above this a segment goes to the own kernel, which is deterministic without.
constexpr bool fits_attention_scratch(std::int64_t num_heads, std::int64_t longest_segment) {
  constexpr std::int64_t kMaxBytes = std::int64_t{4} << 30;
  return attention_scratch_bytes(num_heads, ragged_batch_tokens(longest_segment)) <= kMaxBytes;
}

// Segments that one call takes at most, a power of two: those of 1 GiB, or one.
constexpr std::int64_t segments_at_once(std::int64_t num_heads, std::int64_t batch_tokens) {
  constexpr std::int64_t kMaxBytes = std::int64_t{1} << 30;
  const std::int64_t fit = kMaxBytes / attention_scratch_bytes(num_heads, batch_tokens);
  return static_cast<std::int64_t>(
      std::bit_floor(static_cast<std::uint64_t>(std::max<std::int64_t>(1, fit))));
}

}  // namespace fathom::kernels::cuda
