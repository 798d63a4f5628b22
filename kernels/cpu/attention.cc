#include "kernels/attention.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/round_up.h"
#include "kernels/cpu/attention_blocks.h"
#include "kernels/cpu/block_attention.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/weighted_for.h"

namespace fathom::kernels {
namespace cpu {
namespace {

struct InputData {
  const float* q;
  const float* kv;
  const float* latent;
};
struct OutputData {
  float* out;
  float* lse;
};

// One head of one segment, on one thread.
class ForwardHead {
 public:
  ForwardHead(const AttentionLayout& layout, std::int64_t longest, Stream& stream)
      : layout_(layout),
        scratch_(scratch_size(layout, longest), stream),
        keys_(scratch_.take(layout.padded_key * round_up(longest, kBlock))),
        values_(scratch_.take(layout.padded_value * round_up(longest, kBlock))),
        attention_(layout, scratch_) {}

  void start(const Segment& segment, std::int64_t head) {
    segment_ = segment;
    head_ = head;
    num_packed_blocks_ = 0;
  }

  // The queries whose positions lie in block `query_block`.
  void attend(const InputData& inputs, std::int64_t query_block, const OutputData& outputs) {
    while (num_packed_blocks_ <= query_block) {
      pack(inputs, num_packed_blocks_++);
    }
    const HeadRows rows(layout_, segment_.first + query_block * kBlock, head_);
    const BlockRows queries{0, segment_.block_rows(query_block)};
    attention_.start(queries, query_rows(layout_, inputs.q + rows.q));
    for (std::int64_t key_block = 0; key_block <= query_block; ++key_block) {
      const float* const keys = keys_ + key_block * layout_.padded_key * kBlock;
      attention_.add(queries,
                     {keys, keys + layout_.nope_size * kBlock,
                      values_ + key_block * layout_.padded_value * kBlock},
                     key_block == query_block ? kKeysUpToRow : kAllKeys);
    }
    attention_.finish(outputs.out + rows.out, outputs.lse + rows.lse);
  }

 private:
  static std::int64_t scratch_size(const AttentionLayout& layout, std::int64_t longest) {
    return (layout.padded_key + layout.padded_value) * round_up(longest, kBlock) +
           BlockAttention::scratch_size(layout);
  }

  void pack(const InputData& inputs, std::int64_t block) {
    const HeadRows rows(layout_, segment_.first + block * kBlock, head_);
    const std::int64_t num_rows = segment_.block_rows(block);
    float* const keys = keys_ + block * layout_.padded_key * kBlock;
    float* const values = values_ + block * layout_.padded_value * kBlock;
    if (num_rows < kBlock) {  // masked, but not to be read uninitialized
      std::fill_n(keys, layout_.padded_key * kBlock, 0.0F);
    }
    if (layout_.padded_value > layout_.value_size) {
      std::fill_n(values, layout_.padded_value * kBlock, 0.0F);
    }
    transpose({inputs.kv + rows.nope, layout_.kv_stride}, num_rows, layout_.nope_size, keys,
              kBlock);
    transpose({inputs.latent + rows.rope, layout_.latent_stride}, num_rows, layout_.rope_size,
              keys + layout_.nope_size * kBlock, kBlock);
    copy_rows({inputs.kv + rows.value, layout_.kv_stride}, num_rows, layout_.value_size, values,
              layout_.padded_value);
  }

  const AttentionLayout& layout_;
  Scratch scratch_;
  float* keys_;
  float* values_;
  BlockAttention attention_;
  Segment segment_;
  std::int64_t head_ = 0;
  std::int64_t num_packed_blocks_ = 0;
};

struct QueryBlock {
  std::size_t segment;
  std::int64_t head;
  std::int64_t block;
};

void forward(const AttentionShape& shape, const AttentionInputs& inputs, Tensor& out, Tensor& lse,
             Stream& stream) {
  const AttentionLayout layout(shape, inputs.latent.size(1));
  const std::vector<Segment> segments = checked_segments(inputs.segments, inputs.q.size(0));
  const InputData from{inputs.q.data<float>(), inputs.kv.data<float>(),
                       inputs.latent.data<float>()};
  const OutputData to{out.mutable_data<float>(), lse.mutable_data<float>()};
  std::vector<QueryBlock> blocks;
  std::vector<std::int64_t> weights;  // key blocks
  for (std::size_t segment = 0; segment < segments.size(); ++segment) {
    for (std::int64_t head = 0; head < layout.num_heads; ++head) {
      for (std::int64_t block = 0; block < segments[segment].num_blocks(); ++block) {
        blocks.push_back({segment, head, block});
        weights.push_back(block + 1);
      }
    }
  }
  const std::int64_t longest = longest_of(segments);
  parallel_for_weighted(weights, 1, stream, [&](std::size_t begin, std::size_t end) {
    if (begin == end) {
      return;
    }
    ForwardHead forward_head(layout, longest, stream);
    for (std::size_t i = begin; i < end; ++i) {
      const QueryBlock& item = blocks[i];
      if (i == begin || item.block == 0) {
        forward_head.start(segments[item.segment], item.head);
      }
      forward_head.attend(from, item.block, to);
    }
  });
}

const KernelRegistration register_forward(attention_forward_slot, DeviceType::kCpu, &forward);

}  // namespace
}  // namespace cpu
}  // namespace fathom::kernels
