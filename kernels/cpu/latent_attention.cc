#include "kernels/latent_attention.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/cpu/attention_blocks.h"
#include "kernels/cpu/block_attention.h"
#include "kernels/cpu/paged_spans.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/weighted_for.h"

namespace fathom::kernels {
namespace cpu {
namespace {

// b [size, columns] of each head in panels of 16 columns.
struct HeadPanels {
  std::int64_t size;
  std::int64_t columns;
  float* packed;

  std::int64_t num_panels() const { return (columns + simd::kLanes - 1) / simd::kLanes; }
  void pack(const ConstMatrix& b, std::int64_t head) const {
    float* panel = packed + head * num_panels() * size * simd::kLanes;
    for (std::int64_t column = 0; column < columns; column += simd::kLanes) {
      pack_panel(b.from_column(column), size,
                 std::min<std::int64_t>(simd::kLanes, columns - column), panel);
      panel += size * simd::kLanes;
    }
  }
};

void pack(const AttentionShape& shape, const Tensor& kv_b, Tensor& key, Tensor& value,
          Stream& stream) {
  const std::int64_t rank = shape.rope_column;
  const std::int64_t head_rows = shape.nope_size + shape.value_size;
  const HeadPanels keys{shape.nope_size, rank, key.mutable_data<float>()};
  const HeadPanels values{rank, shape.value_size, value.mutable_data<float>()};
  stream.parallel_for(shape.num_heads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t head = begin; head < end; ++head) {
      const float* const w = kv_b.data<float>() + head * head_rows * rank;
      keys.pack({w, rank, 1}, head);
      values.pack({w + shape.nope_size * rank, 1, rank}, head);
    }
  });
}

// Latents as keys and values of one head, whose rows are those of all heads of a token.
AttentionLayout latent_layout(const AttentionShape& shape, std::int64_t row_size) {
  AttentionShape latents = shape;
  latents.num_heads = 1;
  latents.nope_size = shape.rope_column;
  latents.value_size = shape.rope_column;
  return {latents, row_size};
}

// A page: the latents [64, padded rank], then the rotated keys [rope_size, 64].
struct LatentPage {
  explicit LatentPage(const AttentionLayout& layout)
      : rope(layout.padded_value * kBlock), size(rope + layout.rope_size * kBlock) {}

  std::int64_t rope;
  std::int64_t size;
};

void keep_rows(const AttentionShape& shape, const Tensor& latent, const PagedSequences& sequences,
               Tensor& cache, Stream& stream) {
  const AttentionLayout layout = latent_layout(shape, latent.size(1));
  const LatentPage place(layout);
  copy_pages(sequences.copies, cache);
  const std::vector<Span> spans = checked_spans(sequences, latent.size(0), cache.size(0));
  for_each_new_block(
      spans, layout.value_size + layout.rope_size, stream,
      [&](const Span& span, std::int64_t block) {
        const BlockRows rows = span.rows_of(block);
        const std::int64_t count = rows.end - rows.begin;
        float* const page = cache.mutable_data<float>() + span.pages[block] * place.size;
        if (rows.begin == 0) {  // a new page; its masked keys are not to be read uninitialized
          std::fill_n(page, place.size, 0.0F);
        }
        const float* const from = latent.data<float>() + span.row_of(block) * layout.latent_stride;
        copy_rows({from, layout.latent_stride}, count, layout.value_size,
                  page + rows.begin * layout.padded_value, layout.padded_value);
        transpose({from + layout.rope_column, layout.latent_stride}, count, layout.rope_size,
                  page + place.rope + rows.begin, kBlock);
      });
}

// Up to 64 of the queries of a span, which are one for each head of each new token in turn.
struct QueryBlock {
  std::size_t span;
  std::int64_t begin;
  std::int64_t end;
};

// The query blocks of one thread.
class LatentAttention {
 public:
  LatentAttention(const AttentionShape& shape, const AttentionLayout& layout, const float* pages,
                  Stream& stream)
      : layout_(layout),
        place_(layout),
        num_heads_(shape.num_heads),
        pages_(pages),
        scratch_(layout.nope_size * kBlock + BlockAttention::scratch_size(layout), stream),
        keys_(scratch_.take(layout.nope_size * kBlock)),
        attention_(layout, scratch_) {}

  // `queries` and `out`: of the block's first query.
  void attend(const Span& span, const QueryBlock& block, const QueryRows& queries, float* out) {
    attention_.start({0, static_cast<int>(block.end - block.begin)}, queries);
    const std::int64_t first_token = block.begin / num_heads_;
    const std::int64_t last_token = (block.end - 1) / num_heads_;
    const std::int64_t num_keys = span.first_position() + last_token + 1;
    for (std::int64_t first_key = 0; first_key < num_keys; first_key += kBlock) {
      const KeyBlock keys = unpack(span.pages[first_key / kBlock], num_keys - first_key);
      for (std::int64_t token = first_token; token <= last_token; ++token) {
        const std::int64_t seen = span.first_position() + token + 1 - first_key;
        if (seen > 0) {
          const std::int64_t begin = std::max(block.begin, token * num_heads_);
          const std::int64_t end = std::min(block.end, (token + 1) * num_heads_);
          attention_.add(
              {static_cast<int>(begin - block.begin), static_cast<int>(end - block.begin)}, keys,
              {std::min(kBlock, seen), 0});
        }
      }
    }
    attention_.finish(out, nullptr);
  }

 private:
  // A page's latents are values as they lie; as keys they are transposed.
  KeyBlock unpack(std::int64_t page, std::int64_t num_keys) {
    const float* const latents = pages_ + page * place_.size;
    transpose({latents, layout_.padded_value}, round_up_to_lanes(std::min(kBlock, num_keys)),
              layout_.nope_size, keys_, kBlock);
    return {keys_, latents + place_.rope, latents};
  }

  const AttentionLayout& layout_;
  LatentPage place_;
  std::int64_t num_heads_;
  const float* pages_;
  Scratch scratch_;
  float* keys_;  // [rank, 64]
  BlockAttention attention_;
};

void forward(const AttentionShape& shape, const AbsorbedQueries& queries,
             const PagedSequences& sequences, const Tensor& cache, Tensor& out, Stream& stream) {
  const AttentionLayout layout = latent_layout(shape, 0);
  const std::vector<Span> spans = checked_spans(sequences, out.size(0), cache.size(0));
  std::vector<QueryBlock> blocks;
  std::vector<std::int64_t> weights;  // products of a query with a key
  for (std::size_t span = 0; span < spans.size(); ++span) {
    const std::int64_t num_queries = spans[span].num_rows * shape.num_heads;
    for (std::int64_t begin = 0; begin < num_queries; begin += kBlock) {
      const std::int64_t end = std::min(begin + kBlock, num_queries);
      blocks.push_back({span, begin, end});
      weights.push_back((end - begin) *
                        (spans[span].first_position() + (end - 1) / shape.num_heads + 1));
    }
  }
  const std::int64_t rank = shape.rope_column;
  const std::int64_t query_size = shape.nope_size + shape.rope_size;
  std::fill_n(out.mutable_data<float>(), out.numel(), 0.0F);
  constexpr std::int64_t kMinThreadMultiplyAdds = 1 << 17;
  parallel_for_weighted(
      weights, 1 + kMinThreadMultiplyAdds / (layout.key_size + layout.value_size), stream,
      [&](std::size_t begin, std::size_t end) {
        LatentAttention attention(shape, layout, cache.data<float>(), stream);
        for (std::size_t i = begin; i < end; ++i) {
          const Span& span = spans[blocks[i].span];
          const std::int64_t query = span.first_row * shape.num_heads + blocks[i].begin;
          attention.attend(
              span, blocks[i],
              {queries.absorbed.data<float>() + query * rank, rank,
               queries.q.data<float>() + query * query_size + shape.nope_size, query_size},
              out.mutable_data<float>() + query * rank);
        }
      });
}

const KernelRegistration register_pack(pack_absorbed_slot, DeviceType::kCpu, &pack);
const KernelRegistration register_keep(keep_latents_in_pages_slot, DeviceType::kCpu, &keep_rows);
const KernelRegistration register_forward(latent_attention_forward_slot, DeviceType::kCpu,
                                          &forward);

}  // namespace
}  // namespace cpu
}  // namespace fathom::kernels
