#pragma once

#include "kernels/cuda/pages.cuh"

namespace fathom::kernels::cuda {

// Which tokens the blocks of an attention work on: tiles[i] = (sequence, first of its new tokens),
// ascending, or (-1, 0). A tile has tokens of one sequence, counted from the first new one.
struct TilePlan {
  std::int64_t num_tiles;  // as many as there may be: the host does not know the sequences
  Tensor tiles;            // [num_tiles, 2]

  const int2* data() const { return reinterpret_cast<const int2*>(tiles.raw()); }
};
TilePlan plan_tiles(const Spans& spans, int tokens_of_tile, Stream& stream);

// Segments of attention_forward as sequences all of whose tokens are new.
struct SegmentTiles {
  SegmentTiles(const Tensor& segments, std::int64_t num_tokens, int tokens_of_tile, Stream& stream);

  Tensor numbers;  // [num_segments, 4]
  Spans spans;     // they have no pages
  TilePlan plan;
};

}  // namespace fathom::kernels::cuda
