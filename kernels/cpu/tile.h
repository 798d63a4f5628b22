#pragma once

#include <cstdint>
#include <type_traits>

#include "core/round_up.h"
#include "kernels/cpu/simd.h"

// Products of blocks that fit the first caches, where a call of a library costs more than it
// computes.
namespace fathom::kernels::cpu {

// Rows of a register block: 6 x 16 sums, 2 loaded and 1 broadcast fill the 16 registers of AVX2.
inline constexpr int kTileRows = 6;

constexpr std::int64_t round_up_to_lanes(std::int64_t size) { return round_up(size, simd::kLanes); }

// Calls tile(std::integral_constant<int, n>, first) for the rows [first, first + n) of [begin,
// end): six at a time.
template <class Tile>
HWY_INLINE void for_each_row_tile(int begin, int end, Tile&& tile) {
  for (; begin + kTileRows <= end; begin += kTileRows) {
    tile(std::integral_constant<int, kTileRows>(), begin);
  }
  switch (end - begin) {
    case 5:
      tile(std::integral_constant<int, 5>(), begin);
      break;
    case 4:
      tile(std::integral_constant<int, 4>(), begin);
      break;
    case 3:
      tile(std::integral_constant<int, 3>(), begin);
      break;
    case 2:
      tile(std::integral_constant<int, 2>(), begin);
      break;
    case 1:
      tile(std::integral_constant<int, 1>(), begin);
      break;
    default:
      break;
  }
}

// How the left factor lies in memory: a(row, k) = data[row * stride + k], or data[k * stride +
// row].
enum class Layout { kRowMajor, kTransposed };

template <Layout kLayout>
struct Left {
  const float* data = nullptr;
  std::int64_t stride = 0;
  const float* at(std::int64_t row, std::int64_t k) const {
    return kLayout == Layout::kRowMajor ? data + row * stride + k : data + k * stride + row;
  }
};
// The right factor: rows of sixteen columns.
struct Right {
  const float* data = nullptr;
  std::int64_t stride = 0;
};

template <int kRows>
struct TileSums {
  simd::Floats row[kRows];
};

// sum(r, c) += sum over k in [begin, end), ascending, of a(r, k) * b(k, c): a chain of fused
// multiply-adds.
template <int kRows, Layout kLayout>
HWY_INLINE void add_tile(const Left<kLayout>& a, const Right& b, std::int64_t begin,
                         std::int64_t end, TileSums<kRows>& sums) {
  for (std::int64_t k = begin; k < end; ++k) {
    const simd::Floats right = simd::load(b.data + k * b.stride);
    for (int r = 0; r < kRows; ++r) {
      sums.row[r] = simd::fma(simd::broadcast(*a.at(r, k)), right, sums.row[r]);
    }
  }
}
template <int kRows>
HWY_INLINE TileSums<kRows> zero_sums() {
  TileSums<kRows> sums;
  for (int r = 0; r < kRows; ++r) {
    sums.row[r] = simd::zero();
  }
  return sums;
}

// sum(r, c) = sum over k in [begin, end) of a(r, k) * b(k, c), as above from +0.
template <int kRows, Layout kLayout>
HWY_INLINE TileSums<kRows> multiply_tile(const Left<kLayout>& a, const Right& b, std::int64_t begin,
                                         std::int64_t end) {
  TileSums<kRows> sums = zero_sums<kRows>();
  add_tile(a, b, begin, end, sums);
  return sums;
}

// Calls body(std::integral_constant<int, n>, first) for the columns [first, first + 16 n) of [0,
// size), a multiple of 16: kMost panels at a time, the last ones by themselves.
template <int kMost, class Body>
HWY_INLINE void for_each_panels(std::int64_t size, Body&& body) {
  std::int64_t first = 0;
  for (; first + kMost * simd::kLanes <= size; first += kMost * simd::kLanes) {
    body(std::integral_constant<int, kMost>(), first);
  }
  if constexpr (kMost > 1) {
    for (; first < size; first += simd::kLanes) {
      body(std::integral_constant<int, 1>(), first);
    }
  }
}

template <int kRows, int kPanels>
HWY_INLINE void zero_panels(TileSums<kRows> (&sums)[kPanels]) {
  for (TileSums<kRows>& panel : sums) {
    panel = zero_sums<kRows>();
  }
}

// add_tile of [0, end) for kPanels adjacent panels of b at once.
template <int kRows, int kPanels, Layout kLayout>
HWY_INLINE void add_panels(const Left<kLayout>& a, const Right& b, std::int64_t end,
                           TileSums<kRows> (&sums)[kPanels]) {
  for (std::int64_t k = 0; k < end; ++k) {
    for (int panel = 0; panel < kPanels; ++panel) {
      const simd::Floats right = simd::load(b.data + k * b.stride + panel * simd::kLanes);
      for (int r = 0; r < kRows; ++r) {
        sums[panel].row[r] = simd::fma(simd::broadcast(*a.at(r, k)), right, sums[panel].row[r]);
      }
    }
  }
}

// The same where a is triangular. The terms beyond the diagonal are left out, not multiplied by 0:
// 0 * NaN would be NaN.
// Sums over k in [0, diagonal + r].
template <int kRows, Layout kLayout>
HWY_INLINE TileSums<kRows> multiply_tile_to_diagonal(const Left<kLayout>& a, const Right& b,
                                                     std::int64_t diagonal) {
  TileSums<kRows> sums = multiply_tile<kRows>(a, b, 0, diagonal);
  for (int k = 0; k < kRows; ++k) {
    const simd::Floats right = simd::load(b.data + (diagonal + k) * b.stride);
    for (int r = k; r < kRows; ++r) {
      sums.row[r] = simd::fma(simd::broadcast(*a.at(r, diagonal + k)), right, sums.row[r]);
    }
  }
  return sums;
}
// Sums over k in [diagonal + r, end), where end >= diagonal + kRows.
template <int kRows, Layout kLayout>
HWY_INLINE TileSums<kRows> multiply_tile_from_diagonal(const Left<kLayout>& a, const Right& b,
                                                       std::int64_t diagonal, std::int64_t end) {
  TileSums<kRows> sums = zero_sums<kRows>();
  for (int k = 0; k < kRows; ++k) {
    const simd::Floats right = simd::load(b.data + (diagonal + k) * b.stride);
    for (int r = 0; r <= k; ++r) {
      sums.row[r] = simd::fma(simd::broadcast(*a.at(r, diagonal + k)), right, sums.row[r]);
    }
  }
  add_tile(a, b, diagonal + kRows, end, sums);
  return sums;
}

// Rows in memory.
struct Rows {
  const float* data = nullptr;
  std::int64_t stride = 0;
};

// Rows r and r + 4, four columns of each.
HWY_INLINE auto load_row_pair(const Rows& from, int row) {
  const simd::hn::CappedTag<float, 4> half;
  const simd::hn::CappedTag<float, 8> whole;
  return simd::hn::Combine(whole, simd::hn::LoadU(half, from.data + (row + 4) * from.stride),
                           simd::hn::LoadU(half, from.data + row * from.stride));
}
// to(c, r) = from(r, c), for 8 rows and 4 columns of `from`.
HWY_INLINE void transpose_8x4(const Rows& from, float* to, std::int64_t to_stride) {
  namespace hn = simd::hn;
  const hn::CappedTag<float, 8> d;
  const auto row0 = load_row_pair(from, 0);
  const auto row1 = load_row_pair(from, 1);
  const auto row2 = load_row_pair(from, 2);
  const auto row3 = load_row_pair(from, 3);
  const auto even_low = hn::InterleaveLower(d, row0, row2);
  const auto even_high = hn::InterleaveUpper(d, row0, row2);
  const auto odd_low = hn::InterleaveLower(d, row1, row3);
  const auto odd_high = hn::InterleaveUpper(d, row1, row3);
  hn::StoreU(hn::InterleaveLower(d, even_low, odd_low), d, to);
  hn::StoreU(hn::InterleaveUpper(d, even_low, odd_low), d, to + to_stride);
  hn::StoreU(hn::InterleaveLower(d, even_high, odd_high), d, to + 2 * to_stride);
  hn::StoreU(hn::InterleaveUpper(d, even_high, odd_high), d, to + 3 * to_stride);
}
// to(c, r) = from(r, c), for rows x columns of `from`.
inline void transpose(const Rows& from, std::int64_t rows, std::int64_t columns, float* to,
                      std::int64_t to_stride) {
  const std::int64_t whole_rows = rows / 8 * 8;
  const std::int64_t whole_columns = columns / 4 * 4;
  for (std::int64_t r = 0; r < whole_rows; r += 8) {
    for (std::int64_t c = 0; c < whole_columns; c += 4) {
      transpose_8x4({from.data + r * from.stride + c, from.stride}, to + c * to_stride + r,
                    to_stride);
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) {
      to[c * to_stride + r] = from.data[r * from.stride + c];
    }
  }
}

// to(r, c) = from(r, c), for rows x columns.
inline void copy_rows(const Rows& from, std::int64_t rows, std::int64_t columns, float* to,
                      std::int64_t to_stride) {
  for (std::int64_t r = 0; r < rows; ++r) {
    simd::for_each_block(columns, [&](std::int64_t c, auto extent) {
      simd::store(simd::load(from.data + r * from.stride + c, extent), to + r * to_stride + c,
                  extent);
    });
  }
}

}  // namespace fathom::kernels::cpu
