#include "kernels/cpu/packed_matmul.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/product.h"
#include "kernels/cpu/row_parts.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/weighted_for.h"
#include "kernels/packed_matmul.h"

namespace fathom::kernels {
namespace cpu {
namespace {

// A register block of few rows and, so that enough chains run at a time to hide the latency of a
// fused multiply-add, several panels.
template <int kRows, int kPanels>
struct Block {
  simd::Floats sum[kRows][kPanels];

  Block& operator+=(const Block& other) {
    for (int r = 0; r < kRows; ++r) {
      for (int p = 0; p < kPanels; ++p) {
        sum[r][p] = sum[r][p] + other.sum[r][p];
      }
    }
    return *this;
  }
};

struct Operands {
  const float* x;
  std::int64_t x_stride;
  const float* panels;  // the first of the block's
  std::int64_t in_size;
  std::int64_t chunk_size;
};

template <int kRows, int kPanels>
HWY_INLINE Block<kRows, kPanels> multiply_slice(const Operands& operands, std::int64_t begin,
                                                std::int64_t end) {
  Block<kRows, kPanels> block;
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPanels; ++p) {
      block.sum[r][p] = simd::zero();
    }
  }
  for (std::int64_t k = begin; k < end; ++k) {
    for (int p = 0; p < kPanels; ++p) {
      const simd::Floats right =
          simd::load(operands.panels + (p * operands.in_size + k) * simd::kLanes);
      for (int r = 0; r < kRows; ++r) {
        block.sum[r][p] = simd::fma(simd::broadcast(operands.x[r * operands.x_stride + k]), right,
                                    block.sum[r][p]);
      }
    }
  }
  return block;
}

// The tree over chunks [first, first + count).
template <int kRows, int kPanels>
Block<kRows, kPanels> multiply_tree(const Operands& operands, int first, int count) {
  if (count > 1) {
    auto block = multiply_tree<kRows, kPanels>(operands, first, count / 2);
    block += multiply_tree<kRows, kPanels>(operands, first + count / 2, count / 2);
    return block;
  }
  const std::int64_t begin = first * operands.chunk_size;
  const std::int64_t end = begin + operands.chunk_size;
  auto block = multiply_slice<kRows, kPanels>(operands, begin, std::min(begin + kInnerSlice, end));
  for (std::int64_t slice = begin + kInnerSlice; slice < end; slice += kInnerSlice) {
    block += multiply_slice<kRows, kPanels>(operands, slice, std::min(slice + kInnerSlice, end));
  }
  return block;
}

// Everything but the block.
struct Task {
  const float* x;
  std::int64_t x_stride;
  std::int64_t num_rows;
  const float* packed;
  std::int64_t in_size;
  float* y;
  std::int64_t y_stride;
  std::int64_t out_size;
  int num_chunks;

  // kRows rows from `row`, kPanels panels from `panel`.
  template <int kRows, int kPanels>
  void run(std::int64_t row, std::int64_t panel) const {
    const Operands operands{x + row * x_stride, x_stride, packed + panel * in_size * simd::kLanes,
                            in_size, in_size / num_chunks};
    const auto block = multiply_tree<kRows, kPanels>(operands, 0, num_chunks);
    for (int p = 0; p < kPanels; ++p) {
      const std::int64_t column = (panel + p) * simd::kLanes;
      simd::for_each_block(
          std::min<std::int64_t>(simd::kLanes, out_size - column), [&](std::int64_t, auto extent) {
            for (int r = 0; r < kRows; ++r) {
              simd::store(block.sum[r][p], y + (row + r) * y_stride + column, extent);
            }
          });
    }
  }
};

// Rows [row, row + kRows) for panels [begin, end), kPanels at a time: about twelve chains fill the
// registers and hide the latency of a fused multiply-add.
template <int kRows, int kPanels>
void run_rows(const Task& task, std::int64_t row, std::int64_t begin, std::int64_t end) {
  for (; begin + kPanels <= end; begin += kPanels) {
    task.run<kRows, kPanels>(row, begin);
  }
  if constexpr (kPanels > 1) {
    run_rows<kRows, kPanels - 1>(task, row, begin, end);
  }
}

// Fewer than six rows.
void run_last_rows(const Task& task, std::int64_t row, std::int64_t begin, std::int64_t end) {
  switch (task.num_rows - row) {
    case 1:
      return run_rows<1, 4>(task, row, begin, end);
    case 2:
      return run_rows<2, 3>(task, row, begin, end);
    case 3:
      return run_rows<3, 2>(task, row, begin, end);
    case 4:
      return run_rows<4, 1>(task, row, begin, end);
    case 5:
      return run_rows<5, 1>(task, row, begin, end);
    default:
      return;
  }
}

void run_panels(const Task& task, std::int64_t begin, std::int64_t end) {
  const std::int64_t whole_rows = task.num_rows / kTileRows * kTileRows;
  for (std::int64_t panel = begin; panel < end; ++panel) {
    for (std::int64_t row = 0; row < whole_rows; row += kTileRows) {
      task.run<kTileRows, 1>(row, panel);
    }
  }
  run_last_rows(task, whole_rows, begin, end);
}

// Calls run(matrix, begin, end) for the panels [begin, end) of each matrix among panels [first,
// last) of all.
template <class Run>
void for_each_matrix(std::int64_t first, std::int64_t last, std::int64_t num_panels,
                     const Run& run) {
  cpu::for_each_row_part(  // a row of panels a matrix
      first, last, num_panels,
      [&](std::int64_t matrix, std::int64_t panel, std::int64_t begin, std::int64_t end) {
        run(matrix, panel, panel + end - begin);
      });
}

// Threads split the panels of all heads.
void forward_heads(const Tensor& x, const Tensor& packed, Tensor& y, Stream& stream) {
  const std::int64_t num_heads = packed.size(0);
  const std::int64_t num_panels = packed.size(1);
  const std::int64_t in_size = packed.size(2);
  const std::int64_t out_size = y.size(1) / num_heads;
  const auto run = [&](std::int64_t head, std::int64_t begin, std::int64_t end) {
    const Task task{x.data<float>() + head * (x.size(1) / num_heads),
                    x.size(1),
                    x.size(0),
                    packed.data<float>() + head * num_panels * in_size * simd::kLanes,
                    in_size,
                    y.mutable_data<float>() + head * out_size,
                    y.size(1),
                    out_size,
                    1};
    run_panels(task, begin, end);
  };
  const std::int64_t panel_work = in_size * simd::kLanes * std::max<std::int64_t>(1, x.size(0));
  stream.parallel_for(
      num_heads * num_panels, 1 + kMinThreadMultiplyAdds / (panel_work + 1),
      [&](std::int64_t begin, std::int64_t end) { for_each_matrix(begin, end, num_panels, run); });
}

const KernelRegistration register_heads(packed_head_matmul_forward_slot, DeviceType::kCpu,
                                        &forward_heads);

}  // namespace

void pack_weight(const Tensor& w, Tensor& packed, Stream& stream) {
  const std::int64_t out_size = w.shape()[-2];
  const std::int64_t in_size = w.shape()[-1];
  const std::int64_t num_panels = packed.shape()[-3];  // of each matrix
  const std::int64_t panel_size = in_size * simd::kLanes;
  stream.parallel_for(packed.numel() / panel_size, 1 + kMinThreadMultiplyAdds / (panel_size + 1),
                      [&](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t p = begin; p < end; ++p) {
                          const std::int64_t row = p % num_panels * simd::kLanes;
                          const float* const first =
                              w.data<float>() + (p / num_panels * out_size + row) * in_size;
                          pack_panel({first, 1, in_size}, in_size,
                                     std::min<std::int64_t>(simd::kLanes, out_size - row),
                                     packed.mutable_data<float>() + p * panel_size);
                        }
                      });
}

void packed_matmul_forward(const Tensor& x, const Tensor& packed, Tensor& y, int num_chunks,
                           Stream& stream) {
  const Task task{x.data<float>(), x.size(1),
                  x.size(0),       packed.data<float>(),
                  packed.size(1),  y.mutable_data<float>(),
                  y.size(1),       y.size(1),
                  num_chunks};
  const std::int64_t panel_work =
      packed.size(1) * simd::kLanes * std::max<std::int64_t>(1, x.size(0));
  stream.parallel_for(packed.size(0), 1 + kMinThreadMultiplyAdds / (panel_work + 1),
                      [&](std::int64_t begin, std::int64_t end) { run_panels(task, begin, end); });
}

// Threads split the panels of all experts, weighed by the experts' rows.
void packed_grouped_matmul_forward(const Tensor& x, const Tensor& packed, const Tensor& offsets,
                                   Tensor& y, Stream& stream) {
  const auto bounds = checked_offsets(offsets, x.size(0));
  const std::int64_t num_panels = packed.size(1);
  const std::int64_t in_size = packed.size(2);
  std::vector<std::int64_t> weights;  // of each panel
  for (std::size_t e = 0; e + 1 < bounds.size(); ++e) {
    weights.insert(weights.end(), static_cast<std::size_t>(num_panels), bounds[e + 1] - bounds[e]);
  }
  const auto run = [&](std::int64_t expert, std::int64_t begin, std::int64_t end) {
    const std::int64_t first = bounds[static_cast<std::size_t>(expert)];
    const Task task{x.data<float>() + first * in_size,
                    in_size,
                    bounds[static_cast<std::size_t>(expert) + 1] - first,
                    packed.data<float>() + expert * num_panels * in_size * simd::kLanes,
                    in_size,
                    y.mutable_data<float>() + first * y.size(1),
                    y.size(1),
                    y.size(1),
                    1};
    run_panels(task, begin, end);
  };
  parallel_for_weighted(weights, 1 + kMinThreadMultiplyAdds / (in_size * simd::kLanes), stream,
                        [&](std::size_t begin, std::size_t end) {
                          for_each_matrix(static_cast<std::int64_t>(begin),
                                          static_cast<std::int64_t>(end), num_panels, run);
                        });
}

}  // namespace cpu
}  // namespace fathom::kernels
