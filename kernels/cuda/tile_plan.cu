#include <algorithm>
#include <limits>

#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/tile_plan.cuh"

namespace fathom::kernels::cuda {
namespace {

// One warp.
__global__ void __launch_bounds__(kWarpSize)
    find_tiles(Spans spans, int tokens_of_tile, int num_tiles, int2* tiles) {
  const int lane = static_cast<int>(threadIdx.x);
  int used = 0;
  for (int first = 0; first < spans.num_sequences; first += kWarpSize) {
    const int sequence = first + lane;
    int4 span{};
    if (sequence < spans.num_sequences) {
      span = spans.spans[sequence];
    }
    const int count = spans.is_valid(span) ? (span.y + tokens_of_tile - 1) / tokens_of_tile : 0;
    int end = count;  // of this lane's tiles among the warp's
    for (int distance = 1; distance < kWarpSize; distance *= 2) {
      const int before = __shfl_up_sync(kAllLanes, end, distance);
      end += lane >= distance ? before : 0;
    }
    for (int i = 0; i < count; ++i) {
      const int at = used + end - count + i;
      if (at < num_tiles) {
        tiles[at] = make_int2(sequence, i * tokens_of_tile);
      }
    }
    used += __shfl_sync(kAllLanes, end, kWarpSize - 1);
  }
  for (int at = used + lane; at < num_tiles; at += kWarpSize) {
    tiles[at] = make_int2(-1, 0);
  }
}

constexpr int kThreads = 128;

// A thread a segment.
__global__ void __launch_bounds__(kThreads)
    spans_of_segments(const std::int32_t* segments, int num_segments, int4* spans) {
  const int segment = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (segment < num_segments) {
    const int first = segments[segment];
    const int num_tokens = segments[segment + 1] - first;
    spans[segment] = make_int4(first, num_tokens, num_tokens, 0);
  }
}

}  // namespace

TilePlan plan_tiles(const Spans& spans, int tokens_of_tile, Stream& stream) {
  // A tile has a token, and all but a sequence's last are full.
  const std::int64_t num_tiles =
      std::min(std::int64_t{spans.num_rows},
               std::int64_t{spans.num_sequences} + spans.num_rows / tokens_of_tile);
  TilePlan plan{num_tiles, Tensor::empty({num_tiles, 2}, DType::kInt32, stream)};
  if (num_tiles > 0) {
    launch(find_tiles, {1, kWarpSize}, stream, spans, tokens_of_tile, num_tiles,
           reinterpret_cast<int2*>(plan.tiles.raw()));
  }
  return plan;
}

SegmentTiles::SegmentTiles(const Tensor& segments, std::int64_t num_tokens, int tokens_of_tile,
                           Stream& stream)
    : numbers(Tensor::empty({segments.size(0) - 1, 4}, DType::kInt32, stream)),
      spans{.spans = reinterpret_cast<const int4*>(numbers.raw()),
            .pages = nullptr,
            .num_sequences = static_cast<int>(numbers.size(0)),
            .num_entries = std::numeric_limits<int>::max(),
            .num_rows = static_cast<int>(num_tokens),
            .num_pages = 0} {
  launch(spans_of_segments, {blocks_for(numbers.size(0), kThreads), kThreads}, stream,
         device_data<std::int32_t>(segments), numbers.size(0),
         reinterpret_cast<int4*>(numbers.raw()));
  plan = plan_tiles(spans, tokens_of_tile, stream);
}

}  // namespace fathom::kernels::cuda
