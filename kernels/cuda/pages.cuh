#pragma once

#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/paged_attention.h"

namespace fathom::kernels::cuda {

// Where a page has what, in elements: the keys' rotated part [64, rope_size], which the heads
// share; then for each head the keys' other part [64, key_size] and the values [64, value_stride].
// Pages of latents have one head, whose values are its keys (value_size 0).
struct PageLayout {
  int num_heads;
  int key_size;
  int rope_size;
  int value_size;
  int value_stride;  // a whole number of panels of 16

  __host__ __device__ int rope() const { return 0; }
  __host__ __device__ int head_size() const {
    return static_cast<int>(kPageTokens) * (key_size + value_stride);
  }
  __host__ __device__ int keys(int head) const {
    return static_cast<int>(kPageTokens) * rope_size + head * head_size();
  }
  __host__ __device__ int values(int head) const {
    return keys(head) + static_cast<int>(kPageTokens) * key_size;
  }
};

// PagedSequences on the device.
struct Spans {
  const int4* spans;  // first row, rows, tokens, first entry of pages
  const std::int32_t* pages;
  int num_sequences;
  int num_entries;
  int num_rows;   // of the tokens
  int num_pages;  // of the cache

  // Whether rows and entries exist; others are left out.
  __device__ bool is_valid(const int4& span) const {
    return span.x >= 0 && span.y >= 0 && span.x <= num_rows - span.y && span.z >= span.y &&
           span.w >= 0 && (span.z + kPageTokens - 1) / kPageTokens <= num_entries - span.w;
  }
  // The page of a position of a sequence; -1 when the cache has no such page.
  __device__ int page(const int4& span, int position) const {
    const int page = pages[span.w + position / static_cast<int>(kPageTokens)];
    return page < num_pages ? page : -1;
  }
};

inline Spans spans_of(const PagedSequences& sequences, std::int64_t num_rows, const Tensor& cache) {
  return {.spans = reinterpret_cast<const int4*>(sequences.spans.raw()),
          .pages = device_data<std::int32_t>(sequences.pages),
          .num_sequences = static_cast<int>(sequences.spans.size(0)),
          .num_entries = static_cast<int>(sequences.pages.size(0)),
          .num_rows = static_cast<int>(num_rows),
          .num_pages = static_cast<int>(cache.size(0))};
}

// Keys and values of tokens as projections leave them: what a token's row of a page is made of.
template <class T>
struct TokenRows {
  const T* keys;
  const T* values;
  const T* rope;
  int row_stride;   // of keys and values
  int head_stride;  // of keys and values
  int rope_stride;
};

inline constexpr int kPageThreads = 128;

// A block a row of the new tokens; rows that no sequence has are left out.
template <class T>
__global__ void __launch_bounds__(kPageThreads)
    keep_rows(TokenRows<T> from, Spans spans, PageLayout layout, std::int64_t page_size, T* cache) {
  const int row = static_cast<int>(blockIdx.x);
  __shared__ int owner;
  if (threadIdx.x == 0) {
    owner = -1;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < spans.num_sequences; i += kPageThreads) {
    const int4 span = spans.spans[i];
    if (spans.is_valid(span) && row >= span.x && row < span.x + span.y) {
      owner = i;  // spans are disjoint
    }
  }
  __syncthreads();
  if (owner < 0) {
    return;
  }
  const int4 span = spans.spans[owner];
  const int position = span.z - span.y + row - span.x;
  const int page = spans.page(span, position);
  if (page < 0) {
    return;
  }
  T* const to = cache + page * page_size;
  const int slot = position % static_cast<int>(kPageTokens);
  const int head_columns = layout.key_size + layout.value_size;
  const T* const keys = from.keys + std::int64_t{row} * from.row_stride;
  const T* const values = from.values + std::int64_t{row} * from.row_stride;
  for (int i = static_cast<int>(threadIdx.x); i < layout.num_heads * head_columns;
       i += kPageThreads) {
    const int head = i / head_columns;
    const int column = i % head_columns;
    if (column < layout.key_size) {
      to[layout.keys(head) + slot * layout.key_size + column] =
          keys[head * from.head_stride + column];
    } else {
      to[layout.values(head) + slot * layout.value_stride + column - layout.key_size] =
          values[head * from.head_stride + column - layout.key_size];
    }
  }
  for (int i = static_cast<int>(threadIdx.x); i < layout.rope_size; i += kPageThreads) {
    to[layout.rope() + slot * layout.rope_size + i] =
        from.rope[std::int64_t{row} * from.rope_stride + i];
  }
}

// Each thread takes an element of all copies, in order: one may read what another has written.
template <class T>
__global__ void __launch_bounds__(kPageThreads)
    copy_pages(const int2* copies, int num_copies, T* cache, int num_pages,
               std::int64_t page_size) {
  const std::int64_t element = std::int64_t{blockIdx.x} * kPageThreads + threadIdx.x;
  if (element >= page_size) {
    return;
  }
  for (int i = 0; i < num_copies; ++i) {
    const int2 copy = copies[i];
    if (min(copy.x, copy.y) >= 0 && max(copy.x, copy.y) < num_pages) {
      cache[copy.y * page_size + element] = cache[copy.x * page_size + element];
    }
  }
}

// Copies pages, then keeps the new tokens.
template <class T>
void keep(const TokenRows<T>& from, const PagedSequences& sequences, std::int64_t num_rows,
          const PageLayout& layout, Tensor& cache, Stream& stream) {
  const std::int64_t page_size = cache.size(1);
  const std::int64_t num_copies = sequences.copies.size(0);
  if (num_copies > 0) {
    launch(copy_pages<T>, {blocks_for(page_size, kPageThreads), kPageThreads}, stream,
           reinterpret_cast<const int2*>(sequences.copies.raw()), num_copies, device_data<T>(cache),
           cache.size(0), page_size);
  }
  launch(keep_rows<T>, {num_rows, kPageThreads}, stream, from, spans_of(sequences, num_rows, cache),
         layout, page_size, device_data<T>(cache));
}

}  // namespace fathom::kernels::cuda
