#include "kernels/cpu/paged_spans.h"

#include "core/error.h"

namespace fathom::kernels::cpu {

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

}  // namespace fathom::kernels::cpu
