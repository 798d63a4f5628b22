#include "kernels/cpu/attention_blocks.h"

#include "core/error.h"

namespace fathom::kernels::cpu {

std::vector<Segment> checked_segments(const Tensor& segments, std::int64_t num_tokens) {
  const auto first_tokens = segments.values<std::int32_t>();
  FATHOM_CHECK(first_tokens.front() == 0 && first_tokens.back() == num_tokens,
               "attention: segments from ", first_tokens.front(), " to ", first_tokens.back(),
               " for ", num_tokens, " tokens");
  std::vector<Segment> result;
  for (std::size_t i = 0; i + 1 < first_tokens.size(); ++i) {
    FATHOM_CHECK(first_tokens[i] <= first_tokens[i + 1], "attention: segment ", i, " from ",
                 first_tokens[i], " to ", first_tokens[i + 1]);
    result.push_back({first_tokens[i], first_tokens[i + 1] - first_tokens[i]});
  }
  return result;
}

std::int64_t longest_of(const std::vector<Segment>& segments) {
  std::int64_t longest = 0;
  for (const Segment& segment : segments) {
    longest = std::max(longest, segment.size);
  }
  return longest;
}

AttentionLayout::AttentionLayout(const AttentionShape& shape, std::int64_t row_size_of_latent)
    : num_heads(shape.num_heads),
      nope_size(shape.nope_size),
      rope_size(shape.rope_size),
      rope_column(shape.rope_column),
      key_size(shape.nope_size + shape.rope_size),
      value_size(shape.value_size),
      padded_key(round_up_to_lanes(key_size)),
      padded_value(round_up_to_lanes(value_size)),
      q_stride(num_heads * key_size),
      kv_stride(num_heads * (nope_size + value_size)),
      latent_stride(row_size_of_latent),
      out_stride(num_heads * value_size),
      scale(shape.scale) {}

HeadRows::HeadRows(const AttentionLayout& layout, std::int64_t token, std::int64_t head)
    : q(token * layout.q_stride + head * layout.key_size),
      nope(token * layout.kv_stride + head * (layout.nope_size + layout.value_size)),
      value(nope + layout.nope_size),
      rope(token * layout.latent_stride + layout.rope_column),
      out(token * layout.out_stride + head * layout.value_size),
      lse(token * layout.num_heads + head) {}

}  // namespace fathom::kernels::cpu
