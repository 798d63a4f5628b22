#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/cpu/block_attention.h"
#include "kernels/paged_attention.h"

namespace fathom::kernels::cpu {

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

// Throws InternalError for spans beyond num_rows rows and for pages beyond the cache.
std::vector<Span> checked_spans(const PagedSequences& sequences, std::int64_t num_rows,
                                std::int64_t num_pages);

// `copies` as of PagedSequences. Throws InternalError for pages beyond the cache.
void copy_pages(const Tensor& copies, Tensor& cache);

// Calls keep(span, block) for every block with new tokens, on the threads of the stream; a token
// moves `token_floats` numbers.
template <class Keep>
void for_each_new_block(std::span<const Span> spans, std::int64_t token_floats, Stream& stream,
                        const Keep& keep) {
  constexpr std::int64_t kMinThreadFloats = 1 << 15;
  stream.parallel_for(std::ssize(spans), 1 + kMinThreadFloats / (token_floats + 1),
                      [&](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t i = begin; i < end; ++i) {
                          const Span& span = spans[static_cast<std::size_t>(i)];
                          for (std::int64_t block = span.first_block(); block < span.num_blocks();
                               ++block) {
                            keep(span, block);
                          }
                        }
                      });
}

}  // namespace fathom::kernels::cpu
