#include <algorithm>

#include "core/tensor.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile.h"

namespace fathom::kernels::cpu {
namespace {

// Rows of a that stay in the second-level cache while all panels of b pass by. A multiple of
// kTileRows.
constexpr std::int64_t kRowBlock = 144;
// Beyond these, rows of a collide in the caches and b outgrows them; BLIS, which packs both, is
// faster there.
constexpr std::int64_t kMaxStride = 256;
constexpr std::int64_t kMaxColumns = 512;
constexpr std::int64_t kFewRows = 32;

// b [size, columns] in panels of 16 columns, [size, 16] each, the last one filled up with zeros.
void pack_panels(const ConstMatrix& b, std::int64_t size, std::int64_t columns, float* panel) {
  for (std::int64_t column = 0; column < columns; column += simd::kLanes) {
    pack_panel(b.from_column(column), size, std::min<std::int64_t>(simd::kLanes, columns - column),
               panel);
    panel += size * simd::kLanes;
  }
}

// What is left of the product: c = (c +) a * panels, over one slice.
struct SliceOutput {
  float* c;
  std::int64_t stride;
  std::int64_t columns;
  bool is_adding;
};

template <int kRows, class Extent>
HWY_INLINE void write_tile(const TileSums<kRows>& sums, const SliceOutput& output, float* to,
                           Extent extent) {
  for (int r = 0; r < kRows; ++r) {
    float* const row = to + r * output.stride;
    simd::store(output.is_adding ? simd::load(row, extent) + sums.row[r] : sums.row[r], row,
                extent);
  }
}

template <Layout kLayout>
void multiply_slice(const Left<kLayout>& a, std::int64_t rows, std::int64_t size,
                    const float* panels, const SliceOutput& output) {
  for (std::int64_t first_row = 0; first_row < rows; first_row += kRowBlock) {
    const auto last_row = static_cast<int>(std::min(first_row + kRowBlock, rows));
    simd::for_each_block(output.columns, [&](std::int64_t column, auto extent) {
      const Right panel{panels + column * size, simd::kLanes};
      for_each_row_tile(static_cast<int>(first_row), last_row, [&](auto num_rows, int row) {
        const Left<kLayout> tile_rows{a.at(row, 0), a.stride};
        const auto sums = multiply_tile<num_rows>(tile_rows, panel, 0, size);
        write_tile(sums, output, output.c + row * output.stride + column, extent);
      });
    });
  }
}

}  // namespace

void pack_panel(const ConstMatrix& b, std::int64_t size, std::int64_t width, float* panel) {
  if (width < simd::kLanes) {
    std::fill_n(panel, size * simd::kLanes, 0.0F);
  }
  if (b.column_stride == 1) {
    copy_rows({b.data, b.row_stride}, size, width, panel, simd::kLanes);
  } else {
    transpose({b.data, b.column_stride}, width, size, panel, simd::kLanes);
  }
}

bool is_for_tiles(const Product& product) {
  const std::int64_t stride = std::max(product.a.row_stride, product.a.column_stride);
  return product.columns <= kMaxColumns && (stride <= kMaxStride || product.rows <= kFewRows);
}

void multiply_by_tiles(const Product& product, Stream& stream) {
  const std::int64_t most = std::min(kInnerSlice, product.inner);
  Tensor packed =
      Tensor::empty({most * round_up_to_lanes(product.columns)}, DType::kFloat32, stream);
  float* const panels = packed.mutable_data<float>();
  bool is_adding = product.accumulate == Accumulate::kAdd;
  for (std::int64_t first = 0; first < product.inner; first += kInnerSlice) {
    const std::int64_t size = std::min(kInnerSlice, product.inner - first);
    pack_panels(product.b.from_row(first), size, product.columns, panels);
    const ConstMatrix a = product.a.from_column(first);
    const SliceOutput output{product.c, product.c_row_stride, product.columns, is_adding};
    if (a.column_stride == 1) {
      multiply_slice(Left<Layout::kRowMajor>{a.data, a.row_stride}, product.rows, size, panels,
                     output);
    } else {
      multiply_slice(Left<Layout::kTransposed>{a.data, a.column_stride}, product.rows, size, panels,
                     output);
    }
    is_adding = true;
  }
}

}  // namespace fathom::kernels::cpu
