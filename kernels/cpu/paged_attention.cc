#include "kernels/paged_attention.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "core/error.h"
#include "kernels/cpu/attention_blocks.h"
#include "kernels/cpu/block_attention.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/weighted_for.h"

namespace fathom::kernels {
namespace cpu {
namespace {

static_assert(kBlock == kPageTokens);

// New rows of one sequence: the last num_rows of its num_tokens tokens.
struct Span {
  std::int64_t first_row = 0;
  std::int64_t num_rows = 0;
  std::int64_t num_tokens = 0;
  const std::int32_t* pages = nullptr;

  std::int64_t first_position() const { return num_tokens - num_rows; }
  std::int64_t first_block() const { return first_position() / kBlock; }
  std::int64_t num_blocks() const { return (num_tokens + kBlock - 1) / kBlock; }
  // The new tokens in a block of positions.
  BlockRows rows_of(std::int64_t block) const {
    return {static_cast<int>(std::max<std::int64_t>(0, first_position() - block * kBlock)),
            static_cast<int>(std::min(kBlock, num_tokens - block * kBlock))};
  }
  // The row of the first of them.
  std::int64_t row_of(std::int64_t block) const {
    return first_row + block * kBlock + rows_of(block).begin - first_position();
  }
};

std::vector<Span> checked_spans(const PagedSequences& sequences, std::int64_t num_rows,
                                std::int64_t num_pages) {
  const auto numbers = sequences.spans.values<std::int32_t>();
  const auto pages = sequences.pages.values<std::int32_t>();
  for (const std::int32_t page : pages) {
    FATHOM_CHECK(page >= 0 && page < num_pages, "page ", page, " of ", num_pages);
  }
  std::vector<Span> spans;
  for (std::size_t i = 0; i < numbers.size(); i += 4) {
    Span span{numbers[i], numbers[i + 1], numbers[i + 2], nullptr};
    const std::int64_t first_page = numbers[i + 3];
    FATHOM_CHECK(span.first_row >= 0 && span.num_rows > 0 &&
                     span.first_row + span.num_rows <= num_rows &&
                     span.num_tokens >= span.num_rows && first_page >= 0 &&
                     first_page + span.num_blocks() <= std::ssize(pages),
                 "attention: span ", i / 4, " of ", span.num_rows, " rows from row ",
                 span.first_row, " of ", num_rows, " and ", span.num_tokens,
                 " tokens in pages from entry ", first_page, " of ", pages.size());
    span.pages = pages.data() + first_page;
    spans.push_back(span);
  }
  return spans;
}

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

void copy_pages(const Tensor& copies, Tensor& cache) {
  const auto numbers = copies.values<std::int32_t>();
  for (std::size_t i = 0; i < numbers.size(); i += 2) {
    const std::int64_t from = numbers[i];
    const std::int64_t to = numbers[i + 1];
    FATHOM_CHECK(std::min(from, to) >= 0 && std::max(from, to) < cache.size(0), "page ", from,
                 " to page ", to, " of ", cache.size(0));
    const float* const source = cache.data<float>() + from * cache.size(1);
    std::copy_n(source, cache.size(1), cache.mutable_data<float>() + to * cache.size(1));
  }
}

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
  constexpr std::int64_t kMinThreadFloats = 1 << 15;
  stream.parallel_for(std::ssize(spans), 1 + kMinThreadFloats / (layout.kv_stride + 1),
                      [&](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t i = begin; i < end; ++i) {
                          const Span& span = spans[static_cast<std::size_t>(i)];
                          for (std::int64_t block = span.first_block(); block < span.num_blocks();
                               ++block) {
                            keep(layout, from, span, block, to);
                          }
                        }
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
          attention.start(span.rows_of(query_block), queries + row.q);
          for (std::int64_t block = 0; block <= query_block; ++block) {
            const std::int64_t page = span.pages[block];
            attention.add({pages + place.nope(page, blocks[i].head), pages + place.rope(page),
                           pages + place.values(page, blocks[i].head)},
                          block == query_block);
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
