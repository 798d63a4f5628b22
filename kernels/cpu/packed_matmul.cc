#include "kernels/packed_matmul.h"

#include <algorithm>

#include "kernels/cpu/product.h"
#include "kernels/cpu/tile.h"

namespace fathom::kernels {
namespace cpu {
namespace {

void pack(const Tensor& w, Tensor& packed, Stream& stream) {
  const std::int64_t out_size = w.size(0);
  const std::int64_t in_size = w.size(1);
  const std::int64_t panel_size = in_size * simd::kLanes;
  stream.parallel_for(packed.size(0), 1 + kMinThreadMultiplyAdds / (panel_size + 1),
                      [&](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t p = begin; p < end; ++p) {
                          const std::int64_t row = p * simd::kLanes;
                          pack_panel({w.data<float>() + row * in_size, 1, in_size}, in_size,
                                     std::min<std::int64_t>(simd::kLanes, out_size - row),
                                     packed.mutable_data<float>() + p * panel_size);
                        }
                      });
}

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

// Everything but the block: what all threads share.
struct Task {
  const Tensor& x;
  const Tensor& packed;
  float* y;
  std::int64_t out_size;
  int num_chunks;

  // kRows rows from `row`, kPanels panels from `panel`.
  template <int kRows, int kPanels>
  void run(std::int64_t row, std::int64_t panel) const {
    const std::int64_t in_size = packed.size(1);
    const Operands operands{x.data<float>() + row * x.size(1), x.size(1),
                            packed.data<float>() + panel * in_size * simd::kLanes, in_size,
                            in_size / num_chunks};
    const auto block = multiply_tree<kRows, kPanels>(operands, 0, num_chunks);
    for (int p = 0; p < kPanels; ++p) {
      const std::int64_t column = (panel + p) * simd::kLanes;
      simd::for_each_block(
          std::min<std::int64_t>(simd::kLanes, out_size - column), [&](std::int64_t, auto extent) {
            for (int r = 0; r < kRows; ++r) {
              simd::store(block.sum[r][p], y + (row + r) * out_size + column, extent);
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
  switch (task.x.size(0) - row) {
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
  const std::int64_t whole_rows = task.x.size(0) / kTileRows * kTileRows;
  for (std::int64_t panel = begin; panel < end; ++panel) {
    for (std::int64_t row = 0; row < whole_rows; row += kTileRows) {
      task.run<kTileRows, 1>(row, panel);
    }
  }
  run_last_rows(task, whole_rows, begin, end);
}

void forward(const Tensor& x, const Tensor& packed, Tensor& y, int num_chunks, Stream& stream) {
  const Task task{x, packed, y.mutable_data<float>(), y.size(1), num_chunks};
  const std::int64_t panel_work =
      packed.size(1) * simd::kLanes * std::max<std::int64_t>(1, x.size(0));
  stream.parallel_for(packed.size(0), 1 + kMinThreadMultiplyAdds / (panel_work + 1),
                      [&](std::int64_t begin, std::int64_t end) { run_panels(task, begin, end); });
}

const KernelRegistration register_pack(pack_weight_slot, DeviceType::kCpu, &pack);
const KernelRegistration register_forward(packed_matmul_forward_slot, DeviceType::kCpu, &forward);

}  // namespace
}  // namespace cpu
}  // namespace fathom::kernels
