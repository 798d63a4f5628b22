#include "kernels/cuda/paged_tiles.cuh"

namespace fathom::kernels::cuda {

__global__ void __launch_bounds__(kWarpSize)
    plan_tiles(Spans spans, int tokens_of_tile, int num_tiles, int2* tiles) {
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

}  // namespace fathom::kernels::cuda
