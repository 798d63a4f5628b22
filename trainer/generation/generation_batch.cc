#include "trainer/generation/generation_batch.h"

#include <algorithm>
#include <bit>

#include "core/error.h"
#include "core/host_copy.h"
#include "core/round_up.h"
#include "kernels/paged_attention.h"
#include "kernels/sample.h"

namespace fathom::trainer {
namespace {

constexpr std::int64_t kSpanNumbers = 4;
constexpr std::int64_t kCopyNumbers = 2;
constexpr std::int64_t kKeyNumbers = 4;  // two int64

std::int64_t power_of_two(std::int64_t count) {
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(count)));
}

// 1, 2, 4, 8, then multiples of 8, beyond 128 of a sixteenth of the power of two above.
std::int64_t decode_rows(std::int64_t count) {
  constexpr std::int64_t kLeast = 8;
  const std::int64_t power = power_of_two(count);
  return count <= kLeast ? power : round_up(count, std::max(kLeast, power / 16));
}

}  // namespace

GenerationInputs::GenerationInputs(std::span<const Feed> feeds, const Scheduler& scheduler,
                                   std::span<const RandomSource> random)
    : is_decode_(!feeds.empty()) {
  for (const Feed& feed : feeds) {
    add(feed, scheduler, random[feed.sequence]);
    is_decode_ = is_decode_ && feed.count == 1 && feed.is_whole && !feed.copied_page;
  }
}

void GenerationInputs::add(const Feed& feed, const Scheduler& scheduler,
                           const RandomSource& random) {
  const std::int64_t end = feed.first + feed.count;
  for (const std::int64_t number : {size(kTokens), feed.count, end, size(kPages)}) {
    parts_[kSpans].push_back(static_cast<std::int32_t>(number));
  }
  const auto pages = scheduler.pages(feed.sequence);
  parts_[kPages].insert(parts_[kPages].end(), pages.begin(), pages.end());
  if (feed.copied_page) {
    parts_[kCopies].push_back(*feed.copied_page);
    parts_[kCopies].push_back(pages[static_cast<std::size_t>(feed.first / kernels::kPageTokens)]);
  }
  const auto tokens = scheduler.tokens(feed.sequence);
  for (std::int64_t i = feed.first; i < end; ++i) {
    parts_[kTokens].push_back(tokens[static_cast<std::size_t>(i)]);
    parts_[kPositions].push_back(static_cast<std::int32_t>(i));
  }
  if (feed.is_whole) {
    parts_[kLogitRows].push_back(static_cast<std::int32_t>(size(kTokens) - 1));
    const auto key =
        std::bit_cast<std::array<std::int32_t, kKeyNumbers>>(kernels::sample_key(random, end));
    parts_[kSampleKeys].insert(parts_[kSampleKeys].end(), key.begin(), key.end());
  }
}

BatchShape GenerationInputs::shape() const noexcept {
  return {.num_rows = size(kTokens),
          .num_sequences = size(kSpans) / kSpanNumbers,
          .num_page_entries = size(kPages),
          .num_copies = size(kCopies) / kCopyNumbers,
          .num_logit_rows = size(kLogitRows)};
}

void GenerationInputs::fill_rows(std::int64_t multiple) {
  const std::int64_t rows = round_up(std::max<std::int64_t>(1, size(kTokens)), multiple);
  for (const Part part : {kTokens, kPositions}) {
    parts_[part].resize(static_cast<std::size_t>(rows), 0);
  }
}

void GenerationInputs::fill_decode() {
  FATHOM_CHECK(is_decode_, "a step with prompts is filled up like one of tokens");
  const std::int64_t rows = decode_rows(size(kTokens));
  fill_rows(rows);
  const auto count = static_cast<std::size_t>(rows);
  parts_[kSpans].resize(count * kSpanNumbers, 0);
  parts_[kSampleKeys].resize(count * kKeyNumbers, 0);
  while (size(kLogitRows) < rows) {
    parts_[kLogitRows].push_back(static_cast<std::int32_t>(size(kLogitRows)));
  }
  const std::int64_t entries = rows * power_of_two((size(kPages) + rows - 1) / rows);
  parts_[kPages].resize(static_cast<std::size_t>(entries), 0);
}

std::array<std::int64_t, GenerationInputs::kNumParts + 1> GenerationInputs::places(
    const BatchShape& shape) {
  constexpr std::int64_t kAlignment = 64;  // 256 bytes
  std::array<std::int64_t, kNumParts + 1> places{};
  const std::array<std::int64_t, kNumParts> sizes{
      shape.num_rows,
      shape.num_rows,
      kSpanNumbers * shape.num_sequences,
      shape.num_page_entries,
      kCopyNumbers * shape.num_copies,
      shape.num_logit_rows,
      kKeyNumbers * shape.num_logit_rows,
  };
  for (std::size_t part = 0; part < sizes.size(); ++part) {
    places[part + 1] = places[part] + round_up(sizes[part], kAlignment);
  }
  return places;
}

std::int64_t GenerationInputs::num_numbers(const BatchShape& shape) {
  return places(shape)[kNumParts];
}

void GenerationInputs::copy_to(Tensor& numbers, Stream& stream) const {
  const auto begin = places(shape());
  std::vector<std::int32_t> all(static_cast<std::size_t>(numbers.numel()), 0);
  for (std::size_t part = 0; part < parts_.size(); ++part) {
    std::ranges::copy(parts_[part], all.begin() + begin[part]);
  }
  from_host<std::int32_t>(all, numbers, stream);
}

GenerationBatch GenerationInputs::batch_in(const Tensor& numbers, const BatchShape& shape) {
  const auto begin = places(shape);
  const auto part = [&](Part which, const Shape& sizes) {
    return numbers.view_elements(begin[which], sizes);
  };
  GenerationBatch batch;
  model::MicroBatch& micro_batch = batch.micro_batch;
  micro_batch.num_sequences = 1;
  micro_batch.sequence_length = shape.num_rows;
  micro_batch.tokens = part(kTokens, Shape{shape.num_rows});
  micro_batch.positions = part(kPositions, Shape{shape.num_rows});
  micro_batch.spans = part(kSpans, Shape{shape.num_sequences, kSpanNumbers});
  micro_batch.pages = part(kPages, Shape{shape.num_page_entries});
  micro_batch.page_copies = part(kCopies, Shape{shape.num_copies, kCopyNumbers});
  micro_batch.logit_rows = part(kLogitRows, Shape{shape.num_logit_rows});
  batch.sample_keys = part(kSampleKeys, Shape{kKeyNumbers * shape.num_logit_rows})
                          .view_as(DType::kInt64, Shape{shape.num_logit_rows, 2});
  return batch;
}

}  // namespace fathom::trainer
