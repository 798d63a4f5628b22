#include "kernels/cuda/grouped_tiles.h"

#include <map>
#include <tuple>
#include <vector>

#include "tests/support/catch.h"

namespace fathom::kernels::cuda {
namespace {

constexpr int kRows = 4;
constexpr int kColumns = 3;

// How often the walks of `num_blocks` blocks come to each element (expert, row, column), and that
// what they say of it is right.
template <GroupedProduct kProduct>
std::map<std::tuple<int, int, int>, int> visits(const GroupedSizes& sizes, int num_blocks) {
  constexpr bool kIsWeight = kProduct == GroupedProduct::kBackwardWeight;
  std::map<std::tuple<int, int, int>, int> counts;
  std::int64_t num_tiles = 0;
  for (int block = 0; block < num_blocks; ++block) {
    TileWalk<kProduct, kRows, kColumns> walk(sizes, block, num_blocks);
    for (GroupedTile tile; walk.next(tile); ++num_tiles) {
      const int depth = kProduct == GroupedProduct::kForward ? sizes.in_size : sizes.out_size;
      if (kIsWeight) {
        CHECK(tile.depth == sizes.offsets[tile.expert * sizes.parts]);
        CHECK(tile.depth_end == sizes.offsets[(tile.expert + 1) * sizes.parts]);
      } else {
        CHECK((tile.depth == 0 && tile.depth_end == depth));
      }
      for (int row = tile.row; row < std::min(tile.row + kRows, tile.row_end); ++row) {
        for (int column = tile.column; column < std::min(tile.column + kColumns, tile.column_end);
             ++column) {
          ++counts[{tile.expert, row, column}];
        }
      }
    }
  }
  CHECK(num_tiles <= most_tiles<kProduct, kRows, kColumns>(sizes));
  return counts;
}

template <GroupedProduct kProduct>
void check_each_once(const GroupedSizes& sizes) {
  std::map<std::tuple<int, int, int>, int> want;
  for (int e = 0; e < sizes.num_experts; ++e) {
    const auto begin = static_cast<int>(sizes.offsets[e * sizes.parts]);
    const auto end = static_cast<int>(sizes.offsets[(e + 1) * sizes.parts]);
    const bool is_weight = kProduct == GroupedProduct::kBackwardWeight;
    const int columns = kProduct == GroupedProduct::kForward ? sizes.out_size : sizes.in_size;
    for (int row = is_weight ? 0 : begin; row < (is_weight ? sizes.out_size : end); ++row) {
      const bool is_written = begin < end || (is_weight && !sizes.is_adding);
      for (int column = 0; column < columns && is_written; ++column) {
        want[{e, row, column}] = 1;
      }
    }
  }
  for (const int num_blocks : {1, 2, 7, 100}) {
    CHECK(visits<kProduct>(sizes, num_blocks) == want);
  }
}

TEST_CASE("The blocks' walks come to every element of every expert once") {
  const std::vector<std::int64_t> offsets{0, 0, 5, 5, 13, 113, 114, 114};
  for (const int parts : {1, 2, 3}) {
    GroupedSizes sizes{.offsets = offsets.data(),
                       .parts = parts,
                       .num_experts = 6 / parts,
                       .num_tokens = 114,
                       .out_size = 10,
                       .in_size = 6};
    check_each_once<GroupedProduct::kForward>(sizes);
    check_each_once<GroupedProduct::kBackwardInput>(sizes);
    check_each_once<GroupedProduct::kBackwardWeight>(sizes);
    sizes.is_adding = true;  // nothing to experts without tokens
    check_each_once<GroupedProduct::kBackwardWeight>(sizes);
  }
}

// The first token and the one behind the last of each sum of an expert's tile.
template <bool kByPart>
std::vector<std::pair<int, int>> ranges_of(const GroupedSizes& sizes, int expert) {
  GroupedTile tile;
  tile.expert = expert;
  tile.depth = part_begin(sizes, std::int64_t{expert} * sizes.parts);
  tile.depth_end = part_begin(sizes, std::int64_t{expert + 1} * sizes.parts);
  std::vector<std::pair<int, int>> ranges;
  DepthWalk<kByPart> walk(sizes, tile);
  for (DepthRange range; walk.next(range);) {
    ranges.emplace_back(range.begin, range.end);
  }
  return ranges;
}

TEST_CASE("A tile's sums are over the parts that have tokens, or over all of them") {
  using Ranges = std::vector<std::pair<int, int>>;
  const std::vector<std::int64_t> offsets{0, 0, 5, 5, 5, 5, 5, 7, 12, 12};
  const GroupedSizes sizes{
      .offsets = offsets.data(), .parts = 3, .num_experts = 3, .num_tokens = 12};
  CHECK(ranges_of<true>(sizes, 0) == Ranges{{0, 5}});
  CHECK(ranges_of<true>(sizes, 1).empty());
  CHECK(ranges_of<true>(sizes, 2) == Ranges{{5, 7}, {7, 12}});
  CHECK(ranges_of<false>(sizes, 1) == Ranges{{5, 5}});
  CHECK(ranges_of<false>(sizes, 2) == Ranges{{5, 12}});
  const GroupedSizes dense{.part_tokens = 4, .parts = 3, .num_experts = 1, .num_tokens = 12};
  CHECK(ranges_of<true>(dense, 0) == Ranges{{0, 4}, {4, 8}, {8, 12}});
  CHECK(ranges_of<false>(dense, 0) == Ranges{{0, 12}});
}

TEST_CASE("Tiles of an expert are numbered once each, in bands of rows") {
  for (const int num_rows : {1, 15, 16, 17, 40}) {
    for (const int num_columns : {1, 3, 22}) {
      std::vector<int> counts(static_cast<std::size_t>(num_rows * num_columns));
      for (int i = 0; i < num_rows * num_columns; ++i) {
        const TilePlace place = tile_place(i, num_rows, num_columns);
        REQUIRE((place.row_tile >= 0 && place.row_tile < num_rows));
        REQUIRE((place.column_tile >= 0 && place.column_tile < num_columns));
        const int tile = place.row_tile * num_columns + place.column_tile;
        ++counts[static_cast<std::size_t>(tile)];
      }
      CHECK(counts == std::vector<int>(counts.size(), 1));
    }
  }
  CHECK(tile_place(16 * 22 - 1, 40, 22).row_tile == 15);
  CHECK(tile_place(16 * 22, 40, 22).row_tile == 16);
}

TEST_CASE("Offsets out of order or range lead to no token outside the tensor") {
  const std::vector<std::int64_t> offsets{-7, 9, 4, std::int64_t{1} << 40, 12, 12, 20};
  const GroupedSizes sizes{
      .offsets = offsets.data(), .num_experts = 6, .num_tokens = 15, .out_size = 2, .in_size = 2};
  TileWalk<GroupedProduct::kForward, kRows, kColumns> rows(sizes, 0, 1);
  for (GroupedTile tile; rows.next(tile);) {
    CHECK((tile.row >= 0 && tile.row < tile.row_end && tile.row_end <= sizes.num_tokens));
  }
  TileWalk<GroupedProduct::kBackwardWeight, kRows, kColumns> weights(sizes, 0, 1);
  for (GroupedTile tile; weights.next(tile);) {
    CHECK((tile.depth >= 0 && tile.depth <= tile.depth_end && tile.depth_end <= sizes.num_tokens));
    DepthWalk<true> parts(sizes, tile);
    for (DepthRange part; parts.next(part);) {
      CHECK((part.begin >= 0 && part.begin < part.end && part.end <= sizes.num_tokens));
    }
  }
}

TEST_CASE("Wide tiles are for columns and rounds that they fill") {
  const GroupedSizes large{.num_experts = 8, .num_tokens = 65536};
  CHECK(prefers_wide_tiles(large, 2816, 132));
  CHECK_FALSE(prefers_wide_tiles(large, 128, 132));
  // What tests/kernels/cuda/grouped_matmul_test.cc counts on, and the emulated device's three.
  const GroupedSizes of_test{.num_experts = 3, .num_tokens = 1000};
  CHECK(prefers_wide_tiles(of_test, 2304, 132));
  CHECK(prefers_wide_tiles({.num_experts = 5, .num_tokens = 300}, 512, 3));
  // matmul_fixed_order_test.cc: some of the rows or columns of what is wide, in narrow tiles.
  const GroupedSizes whole{.num_experts = 1, .num_tokens = 1000};
  for (const int multiprocessors : {3, 132}) {
    CHECK(prefers_wide_tiles(whole, 4608, multiprocessors));
    CHECK_FALSE(prefers_wide_tiles(whole, 24, multiprocessors));
    CHECK_FALSE(prefers_wide_tiles({.num_experts = 1, .num_tokens = 7}, 4608, 132));
  }
  const GroupedSizes small{.num_experts = 8,
                           .num_tokens = 1024};  // 96 wide tiles leave blocks idle
  CHECK_FALSE(prefers_wide_tiles(small, 1024, 132));
}

}  // namespace
}  // namespace fathom::kernels::cuda
