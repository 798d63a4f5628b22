#pragma once

#include <algorithm>
#include <cstdint>

namespace fathom::kernels::cuda {

// The three products of kernels/grouped_matmul.h as C = A B, A of rows x depth, B of depth x
// columns, by what each of the three sizes is:
//                    rows      columns   depth
//   kForward         tokens    out_size  in_size
//   kBackwardInput   tokens    in_size   out_size
//   kBackwardWeight  out_size  in_size   tokens
enum class GroupedProduct { kForward, kBackwardInput, kBackwardWeight };

// Everything but the data. Part p of all experts' parts has the tokens [offsets[p], offsets[p +
// 1]), or without offsets part_tokens of them; expert e has the parts [e * parts, (e + 1) * parts).
// A dense product is that of one expert.
struct GroupedSizes {
  const std::int64_t* offsets = nullptr;  // in device memory: read by the kernel alone
  int part_tokens = 0;
  int parts = 1;
  int num_experts = 0;
  int num_tokens = 0;
  int out_size = 0;
  int in_size = 0;
  // C += A B; then of kBackwardWeight an expert without tokens has no tiles.
  bool is_adding = false;
};

// The first token of a part, or behind the last; never outside [0, num_tokens].
constexpr int part_begin(const GroupedSizes& sizes, std::int64_t part) {
  const std::int64_t token =
      sizes.offsets == nullptr ? part * sizes.part_tokens : sizes.offsets[part];
  return static_cast<int>(
      std::clamp(token, std::int64_t{0}, static_cast<std::int64_t>(sizes.num_tokens)));
}

// One tile of one expert's C and the depth to sum over. Tokens are numbered over all experts.
struct GroupedTile {
  int expert = 0;
  int row = 0;
  int row_end = 0;  // of the expert: the tile may be cut
  int column = 0;
  int column_end = 0;
  int depth = 0;
  int depth_end = 0;
};

constexpr int tiles_of(int size, int tile_size) { return (size + tile_size - 1) / tile_size; }

// Which tile of an expert comes at `index`. Blocks that run at the same time take neighbours of the
// list: a near-square piece of C shares more of A and B in the L2 cache than rows or columns do.
struct TilePlace {
  int row_tile = 0;
  int column_tile = 0;
};
constexpr TilePlace tile_place(int index, int num_row_tiles, int num_column_tiles) {
  constexpr int kBandRows = 16;
  const int band = index / (kBandRows * num_column_tiles);
  const int in_band = index - band * kBandRows * num_column_tiles;
  const int rows = std::min(kBandRows, num_row_tiles - band * kBandRows);
  return {band * kBandRows + in_band % rows, in_band / rows};
}

// The tiles `first`, `first` + `step`, ... of the list of all experts' tiles, which is worked out
// while walking: how many tiles an expert has is known on the device alone. Offsets that are out of
// order or out of range leave tiles out; they never lead outside the tensors.
template <GroupedProduct kProduct, int kTileRows, int kTileColumns>
class TileWalk {
 public:
  constexpr TileWalk(const GroupedSizes& sizes, int first, int step)
      : sizes_(sizes), next_(first), step_(step) {
    read_expert();
  }

  // False at the end.
  constexpr bool next(GroupedTile& tile) {
    while (next_ - first_of_expert_ >= num_row_tiles() * num_column_tiles()) {
      if (expert_ >= sizes_.num_experts) {
        return false;
      }
      first_of_expert_ += num_row_tiles() * num_column_tiles();
      ++expert_;
      read_expert();
    }
    if (expert_ >= sizes_.num_experts) {
      return false;
    }
    const TilePlace place =
        tile_place(next_ - first_of_expert_, num_row_tiles(), num_column_tiles());
    next_ += step_;
    constexpr bool kTokensAreRows = kProduct != GroupedProduct::kBackwardWeight;
    tile.expert = expert_;
    tile.row = (kTokensAreRows ? begin_ : 0) + place.row_tile * kTileRows;
    tile.row_end = kTokensAreRows ? end_ : sizes_.out_size;
    tile.column = place.column_tile * kTileColumns;
    tile.column_end = columns();
    tile.depth = kTokensAreRows ? 0 : begin_;
    tile.depth_end = kTokensAreRows ? sizes_.out_size + sizes_.in_size - columns() : end_;
    return true;
  }

 private:
  constexpr int columns() const {
    return kProduct == GroupedProduct::kForward ? sizes_.out_size : sizes_.in_size;
  }
  constexpr int num_column_tiles() const { return tiles_of(columns(), kTileColumns); }
  constexpr int num_row_tiles() const {
    if constexpr (kProduct == GroupedProduct::kBackwardWeight) {
      return begin_ < end_ || !sizes_.is_adding ? tiles_of(sizes_.out_size, kTileRows) : 0;
    } else {
      return tiles_of(end_ - begin_, kTileRows);
    }
  }
  constexpr int offset(int expert) const {
    return part_begin(sizes_, std::int64_t{expert} * sizes_.parts);
  }
  constexpr void read_expert() {
    begin_ = end_ = 0;
    if (expert_ < sizes_.num_experts) {
      begin_ = offset(expert_);
      end_ = std::max(begin_, offset(expert_ + 1));
    }
  }

  GroupedSizes sizes_;
  int next_;
  int step_;
  int expert_ = 0;
  int first_of_expert_ = 0;
  int begin_ = 0;
  int end_ = 0;
};

// A range of depth that is one sum.
struct DepthRange {
  int begin = 0;
  int end = 0;
};

// The sums of a tile's elements, in order: one over all its depth, which may be 0, or with kByPart,
// of kBackwardWeight, one over each part that has tokens. What loads panels and what multiplies
// them walk the same list.
template <bool kByPart>
class DepthWalk {
 public:
  constexpr DepthWalk(const GroupedSizes& sizes, const GroupedTile& tile)
      : sizes_(sizes), whole_{tile.depth, tile.depth_end} {
    if constexpr (kByPart) {
      next_ = std::int64_t{tile.expert} * sizes.parts;
      end_ = next_ + sizes.parts;
      next_begin_ = part_begin(sizes, next_);
    }
  }

  // False at the end.
  constexpr bool next(DepthRange& range) {
    if constexpr (!kByPart) {
      range = whole_;
      return next_++ < end_;
    } else {
      while (next_ < end_) {
        ++next_;
        range.begin = next_begin_;
        next_begin_ = range.end = part_begin(sizes_, next_);
        if (range.begin < range.end) {
          return true;
        }
      }
      return false;
    }
  }

 private:
  const GroupedSizes& sizes_;
  DepthRange whole_;
  std::int64_t next_ = 0;  // part
  std::int64_t end_ = 1;
  int next_begin_ = 0;  // its first token
};

// Whether tiles of 128 x 256 are expected to be done before those of 128 x 128, which read A twice
// as often but waste less where the columns or the last round of blocks are not full. Experts are
// taken to have the same number of tokens, half a tile of each wasted.
constexpr bool prefers_wide_tiles(const GroupedSizes& sizes, int columns, int num_blocks) {
  constexpr int kRows = 128;
  constexpr double kNarrowCost = 1.1;  // of the same number of elements
  const int row_tiles =
      sizes.num_tokens / kRows + std::min(sizes.num_experts, sizes.num_tokens) / 2;
  const auto time = [&](int width) {
    return tiles_of(std::max(1, row_tiles) * tiles_of(columns, width), num_blocks) * width;
  };
  return time(256) <= kNarrowCost * time(128);
}

// No more tiles than this, whatever the offsets are.
template <GroupedProduct kProduct, int kTileRows, int kTileColumns>
constexpr std::int64_t most_tiles(const GroupedSizes& sizes) {
  const std::int64_t columns =
      tiles_of(kProduct == GroupedProduct::kForward ? sizes.out_size : sizes.in_size, kTileColumns);
  const std::int64_t experts = std::min(sizes.num_experts, sizes.num_tokens);  // that have tokens
  if constexpr (kProduct == GroupedProduct::kBackwardWeight) {
    return (sizes.is_adding ? experts : sizes.num_experts) * tiles_of(sizes.out_size, kTileRows) *
           columns;
  } else {
    return (sizes.num_tokens / kTileRows + experts) * columns;
  }
}

}  // namespace fathom::kernels::cuda
