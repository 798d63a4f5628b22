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

// Everything but the data. The tokens of expert e are [offsets[e * parts], offsets[(e + 1) *
// parts]).
struct GroupedSizes {
  const std::int64_t* offsets = nullptr;  // in device memory: read by the kernel alone
  int parts = 1;
  int num_experts = 0;
  int num_tokens = 0;
  int out_size = 0;
  int in_size = 0;
  // C += A B, of kBackwardWeight; then an expert without tokens has no tiles.
  bool is_adding = false;
};

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
    const std::int64_t value = sizes_.offsets[std::int64_t{expert} * sizes_.parts];
    return static_cast<int>(
        std::clamp(value, std::int64_t{0}, static_cast<std::int64_t>(sizes_.num_tokens)));
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
