#include "kernels/paged_attention.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/cpu/attention_blocks.h"
#include "kernels/cpu/block_attention.h"
#include "kernels/cpu/paged_spans.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/weighted_for.h"

namespace fathom::kernels {
namespace cpu {
namespace {

// A page: the rotated keys, which the heads share, [rope_size, 64]; then for each head its keys
// [nope_size, 64] and values [64, padded_value].
class PageLayout {
 public:
  explicit PageLayout(const AttentionLayout& layout)
      : rope_size_(layout.rope_size * kBlock),
        nope_size_(layout.nope_size * kBlock),
        head_size_(nope_size_ + layout.padded_value * kBlock),
        size_(rope_size_ + layout.num_heads * head_size_) {}

  std::int64_t size() const { return size_; }
  std::int64_t rope(std::int64_t page) const { return page * size_; }
  std::int64_t nope(std::int64_t page, std::int64_t head) const {
    return page * size_ + rope_size_ + head * head_size_;
  }
  std::int64_t values(std::int64_t page, std::int64_t head) const {
    return nope(page, head) + nope_size_;
  }

 private:
  std::int64_t rope_size_;
  std::int64_t nope_size_;
  std::int64_t head_size_;
  std::int64_t size_;
};

struct NewTokens {
  const float* kv;
  const float* latent;
};

// The rows of one span in one block of positions.
void keep(const AttentionLayout& layout, const NewTokens& from, const Span& span,
          std::int64_t block, float* cache) {
  const PageLayout place(layout);
  const std::int64_t page = span.pages[block];
  const BlockRows rows = span.rows_of(block);
  const std::int64_t count = rows.end - rows.begin;
  if (rows.begin == 0) {  // a new page; its masked keys are not to be read uninitialized
    std::fill_n(cache + page * place.size(), place.size(), 0.0F);
  }
  for (std::int64_t head = 0; head < layout.num_heads; ++head) {
    const HeadRows row(layout, span.row_of(block), head);
    transpose({from.kv + row.nope, layout.kv_stride}, count, layout.nope_size,
              cache + place.nope(page, head) + rows.begin, kBlock);
    copy_rows({from.kv + row.value, layout.kv_stride}, count, layout.value_size,
              cache + place.values(page, head) + rows.begin * layout.padded_value,
              layout.padded_value);
    if (head == 0) {
      transpose({from.latent + row.rope, layout.latent_stride}, count, layout.rope_size,
                cache + place.rope(page) + rows.begin, kBlock);
    }
  }
}

void keep_rows(const AttentionShape& shape, const Tensor& kv, const Tensor& latent,
               const PagedSequences& sequences, Tensor& cache, Stream& stream) {
  const AttentionLayout layout(shape, latent.size(1));
  copy_pages(sequences.copies, cache);
  const std::vector<Span> spans = checked_spans(sequences, kv.size(0), cache.size(0));
  const NewTokens from{kv.data<float>(), latent.data<float>()};
  auto* const to = cache.mutable_data<float>();
  for_each_new_block(spans, layout.kv_stride, stream, [&](const Span& span, std::int64_t block) {
    keep(layout, from, span, block, to);
  });
}

// The queries of one head of one span in one block of positions.
struct QueryBlock {
  std::size_t span;
  std::int64_t head;
  std::int64_t block;
};

void forward(const AttentionShape& shape, const Tensor& q, const PagedSequences& sequences,
             const Tensor& cache, Tensor& out, Stream& stream) {
  const AttentionLayout layout(shape, 0);
  const PageLayout place(layout);
  const std::vector<Span> spans = checked_spans(sequences, q.size(0), cache.size(0));
  std::vector<QueryBlock> blocks;
  std::vector<std::int64_t> weights;  // products of a query with a key
  for (std::size_t span = 0; span < spans.size(); ++span) {
    for (std::int64_t head = 0; head < layout.num_heads; ++head) {
      for (std::int64_t block = spans[span].first_block(); block < spans[span].num_blocks();
           ++block) {
        const BlockRows rows = spans[span].rows_of(block);
        blocks.push_back({span, head, block});
        weights.push_back((block + 1) * kBlock * (rows.end - rows.begin));
      }
    }
  }
  const auto* const queries = q.data<float>();
  const auto* const pages = cache.data<float>();
  auto* const outputs = out.mutable_data<float>();
  std::fill_n(outputs, out.numel(), 0.0F);
  constexpr std::int64_t kMinThreadMultiplyAdds = 1 << 17;
  parallel_for_weighted(
      weights, 1 + kMinThreadMultiplyAdds / (layout.key_size + layout.value_size), stream,
      [&](std::size_t begin, std::size_t end) {
        Scratch scratch(BlockAttention::scratch_size(layout), stream);
        BlockAttention attention(layout, scratch);
        for (std::size_t i = begin; i < end; ++i) {
          const Span& span = spans[blocks[i].span];
          const std::int64_t query_block = blocks[i].block;
          const HeadRows row(layout, span.row_of(query_block), blocks[i].head);
          const BlockRows rows = span.rows_of(query_block);
          attention.start(rows, query_rows(layout, queries + row.q));
          for (std::int64_t block = 0; block <= query_block; ++block) {
            const std::int64_t page = span.pages[block];
            attention.add(rows,
                          {pages + place.nope(page, blocks[i].head), pages + place.rope(page),
                           pages + place.values(page, blocks[i].head)},
                          block == query_block ? kKeysUpToRow : kAllKeys);
          }
          attention.finish(outputs + row.out, nullptr);
        }
      });
}

const KernelRegistration register_keep(keep_in_pages_slot, DeviceType::kCpu, &keep_rows);
const KernelRegistration register_forward(paged_attention_forward_slot, DeviceType::kCpu, &forward);

}  // namespace
}  // namespace cpu
}  // namespace fathom::kernels
