#include "trainer/generation/generation_batch.h"

#include <algorithm>
#include <vector>

#include "core/host_copy.h"
#include "kernels/paged_attention.h"

namespace fathom::trainer {
namespace {

Tensor to_tensor(const std::vector<std::int32_t>& values, const Shape& shape, Stream& stream) {
  Tensor tensor = Tensor::empty(shape, DType::kInt32, stream);
  from_host<std::int32_t>(values, tensor, stream);
  return tensor;
}

}  // namespace

model::MicroBatch make_generation_batch(std::span<const Feed> feeds, const Scheduler& scheduler,
                                        int num_tensor_ranks, Stream& stream) {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> spans;
  std::vector<std::int32_t> pages;
  std::vector<std::int32_t> copies;
  std::vector<std::int32_t> logit_rows;
  for (const Feed& feed : feeds) {
    for (const std::int64_t number :
         {std::ssize(tokens), feed.count, feed.first + feed.count, std::ssize(pages)}) {
      spans.push_back(static_cast<std::int32_t>(number));
    }
    const auto sequence_pages = scheduler.pages(feed.sequence);
    pages.insert(pages.end(), sequence_pages.begin(), sequence_pages.end());
    if (feed.copied_page) {
      copies.push_back(*feed.copied_page);
      copies.push_back(sequence_pages[static_cast<std::size_t>(feed.first / kernels::kPageTokens)]);
    }
    const auto sequence_tokens = scheduler.tokens(feed.sequence);
    for (std::int64_t i = feed.first; i < feed.first + feed.count; ++i) {
      tokens.push_back(sequence_tokens[static_cast<std::size_t>(i)]);
      positions.push_back(static_cast<std::int32_t>(i));
    }
    if (feed.is_whole) {
      logit_rows.push_back(static_cast<std::int32_t>(tokens.size() - 1));
    }
  }
  while (tokens.empty() || std::ssize(tokens) % num_tensor_ranks != 0) {
    tokens.push_back(0);
    positions.push_back(0);
  }
  model::MicroBatch batch;
  batch.num_sequences = 1;
  batch.sequence_length = std::ssize(tokens);
  const Shape per_token{batch.sequence_length};
  batch.tokens = to_tensor(tokens, per_token, stream);
  batch.positions = to_tensor(positions, per_token, stream);
  batch.spans = to_tensor(spans, Shape{std::ssize(feeds), 4}, stream);
  batch.pages = to_tensor(pages, Shape{std::ssize(pages)}, stream);
  batch.page_copies = to_tensor(copies, Shape{std::ssize(copies) / 2, 2}, stream);
  batch.logit_rows = to_tensor(logit_rows, Shape{std::ssize(logit_rows)}, stream);
  return batch;
}

}  // namespace fathom::trainer
