#include <algorithm>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/contribution.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/multiprocessors.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/rms_norm_rows.cuh"
#include "kernels/rms_norm.h"

// One kernel reads dy, x and dh once, writes dx and keeps the sums of dy * x_hat over the rows that
// a block walks, its range; a second one adds the ranges up.
//
// A float32 gradient has as many ranges as a GPU holds blocks, so that all of them run from the
// start to the end: 4,096 rows of 2,048 are 7 or 8 to each of 528 blocks, and the sums, 4 bytes a
// column, a tenth of what the rows are, most of which the second kernel finds in the L2 cache. A
// multiprocessor must wait for some 20 KB at any time (3 TB/s for 0.7 us, on 132 of them): the next
// row is read before this one is worked on, which makes it 32 KB, or 48 with dh.
//
// An integer gradient shows its units and nothing else, so a unit's size alone settles its ranges.
namespace fathom::kernels {
namespace {

using namespace cuda;

template <class T>
struct BackwardArguments {
  MatrixRows<const T> dy;
  MatrixRows<const T> x;
  const T* gain;
  const float* inv_rms;
  MatrixRows<const T> dh;  // with kAdds
  MatrixRows<T> dx;
  std::int64_t num_tokens;
  int hidden;
};

// How rows go to blocks: from first_row on, unit after unit, each cut into ranges as even as can
// be.
struct Ranges {
  std::int64_t first_row;
  std::int64_t unit_rows;
  std::int64_t of_unit;

  // Where the i-th range of all begins.
  __device__ __forceinline__ std::int64_t begin(std::int64_t i) const {
    return first_row + i / of_unit * unit_rows + i % of_unit * unit_rows / of_unit;
  }
};

// Whether the registers suffice for two rows.
template <class L>
constexpr bool kPrefetches = L::kPacks > 0 && sizeof(typename L::T) < sizeof(float);
// Blocks on a multiprocessor: 128 registers a thread for up to 16 elements, 255 for 32.
template <class L>
constexpr int kBlocksAtOnce = (L::kPacks * L::N <= 16 ? 512 : 256) / L::kThreads;

// A thread's part of what is read of a token.
template <class L, bool kAdds>
struct Operands {
  RowPart<L> dy;
  RowPart<L> x;
  RowPart<L> dh;
  float inv_rms = 0.0F;

  __device__ __forceinline__ void read(const BackwardArguments<typename L::T>& given,
                                       std::int64_t token) {
    dy = RowPart<L>(given.dy.row(token));
    x = RowPart<L>(given.x.row(token));
    dh = RowPart<L>(given.dh.row(token));
    inv_rms = given.inv_rms[token];
    L::for_each_pack(given.hidden, [&](int pack, int column) {
      dy.read(pack, column);
      x.read(pack, column);
      if constexpr (kAdds) {
        dh.read(pack, column);
      }
    });
  }
};

// A thread's sums over rows: in registers, or for rows of any size where the block's result goes,
// in memory. The warps of a block, each with rows of its own, are added last.
template <class L>
class ColumnSums {
  using Floats = float[L::N];

 public:
  __device__ __forceinline__ ColumnSums(int hidden, float* of_block)
      : hidden_(hidden), of_block_(of_block) {
    if constexpr (L::kPacks == 0) {
      L::for_each_pack(hidden, [&](int, int column) { store_floats(Floats{}, memory() + column); });
    }
  }

  // sum += a * b
  __device__ __forceinline__ void add(int pack, int column, const Floats& a, const Floats& b) {
    if constexpr (L::kPacks == 0) {
      Floats sum;
      load_floats(memory() + column, sum);
      add_products(a, b, sum);
      store_floats(sum, memory() + column);
    } else {
      add_products(a, b, sums_[pack]);
    }
  }

  // Writes the block's sums. All of its threads must take part.
  __device__ __forceinline__ void finish() {
    if constexpr (L::kPacks > 0) {
      L::for_each_pack(hidden_,
                       [&](int pack, int column) { store_floats(sums_[pack], memory() + column); });
    }
    if constexpr (L::kRowsOfBlock > 1) {
      __syncthreads();
      for (int column = static_cast<int>(threadIdx.x); column < hidden_; column += L::kThreads) {
        float total = 0.0F;
#pragma unroll
        for (int warp = 0; warp < L::kRowsOfBlock; ++warp) {
          total += of_warp(warp)[column];
        }
        of_block_[column] = total;
      }
    }
  }

 private:
  __device__ __forceinline__ static void add_products(const Floats& a, const Floats& b,
                                                      Floats& sum) {
#pragma unroll
    for (int i = 0; i < L::N; ++i) {
      sum[i] = fmaf(a[i], b[i], sum[i]);
    }
  }
  __device__ __forceinline__ static float* of_warp(int warp) {
    alignas(16) __shared__ float sums[L::kRowsOfBlock][kWarpRow];
    return sums[warp];
  }
  __device__ __forceinline__ float* memory() const {
    if constexpr (L::kRowsOfBlock > 1) {
      return of_warp(static_cast<int>(threadIdx.x) / kWarpSize);
    } else {
      return of_block_;
    }
  }

  int hidden_;
  float* of_block_;
  Floats sums_[L::kPacks == 0 ? 1 : L::kPacks] = {};
};

// dx of a token, and what it adds to the sums.
template <class L, bool kAdds>
__device__ __forceinline__ void backward_row(const Operands<L, kAdds>& row,
                                             const typename L::T* gain, int hidden,
                                             ColumnSums<L>& sums, typename L::T* dx) {
  const float inverse = row.inv_rms;
  float projection = 0.0F;  // of dy * gain on x
  L::for_each_pack(hidden, [&](int pack, int column) {
    float gradient[L::N];
    float x_hat[L::N];
    float gains[L::N];
    row.dy.again(pack, column, gradient);
    row.x.again(pack, column, x_hat);
    load_pieces<L::kPiece>(gain + column, gains);
#pragma unroll
    for (int i = 0; i < L::N; ++i) {
      x_hat[i] *= inverse;
      projection = fmaf(gradient[i] * gains[i], x_hat[i], projection);
    }
    sums.add(pack, column, gradient, x_hat);
  });
  const float mean = L::sum_of_row(projection) / static_cast<float>(hidden);
  L::for_each_pack(hidden, [&](int pack, int column) {
    float gradient[L::N];
    float values[L::N];
    float gains[L::N];
    row.dy.again(pack, column, gradient);
    row.x.again(pack, column, values);
    load_pieces<L::kPiece>(gain + column, gains);
#pragma unroll
    for (int i = 0; i < L::N; ++i) {
      values[i] = fmaf(values[i] * -inverse, mean, gradient[i] * gains[i]);
    }
    float more[L::N] = {};
    if constexpr (kAdds) {
      row.dh.again(pack, column, more);
    }
#pragma unroll
    for (int i = 0; i < L::N; ++i) {  // fused or not in every layout alike
      values[i] = kAdds ? fmaf(inverse, values[i], more[i]) : inverse * values[i];
    }
    store_pieces<L::kPiece>(values, dx + column);
  });
}

// The gradient through the norm or, with kAdds, that and dh. sums[range, column] = the sum of dy *
// x_hat.
template <class L, bool kAdds>
__global__ void __launch_bounds__(L::kThreads, kBlocksAtOnce<L>)
    backward(BackwardArguments<typename L::T> given, Ranges ranges, float* sums) {
  const std::int64_t last = ranges.begin(blockIdx.x + std::int64_t{1});
  std::int64_t token = ranges.begin(blockIdx.x) + static_cast<int>(threadIdx.x) / L::kThreadsOfRow;
  ColumnSums<L> column_sums(given.hidden, sums + std::int64_t{blockIdx.x} * given.hidden);
  Operands<L, kAdds> next;
  if (kPrefetches<L> && token < last) {
    next.read(given, token);
  }
  for (; token < last; token += L::kRowsOfBlock) {
    Operands<L, kAdds> row = next;
    if constexpr (!kPrefetches<L>) {
      row.read(given, token);
    } else if (token + L::kRowsOfBlock < last) {
      next.read(given, token + L::kRowsOfBlock);
    }
    backward_row(row, given.gain, given.hidden, column_sums, given.dx.row(token));
  }
  column_sums.finish();
}

// Ranges are added up by blocks of a column a lane, whose warps share the ranges.
constexpr int kWarps = 32;

// to[column] = the sum of the warps' totals, or += if it is adding. All threads of the block must
// take part.
template <class Number>
__device__ __forceinline__ void add_warps(Number total, std::int64_t column, int hidden,
                                          bool is_adding, Number* to) {
  __shared__ Number of_warp[kWarps][kWarpSize];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  of_warp[warp][lane] = total;
  __syncthreads();
  if (warp > 0 || column >= hidden) {
    return;
  }
#pragma unroll
  for (int other = 1; other < kWarps; ++other) {
    total += of_warp[other][lane];
  }
  to[column] = is_adding ? to[column] + total : total;
}

// gradient[column] = the sum over ranges of sums[range, column], or += if it is adding.
__global__ void __launch_bounds__(kWarps* kWarpSize)
    add_ranges(const float* sums, std::int64_t num_ranges, int hidden, bool is_adding,
               float* gradient) {
  const std::int64_t column = std::int64_t{blockIdx.x} * kWarpSize + threadIdx.x % kWarpSize;
  float total = 0.0F;
  if (column < hidden) {
#pragma unroll 8
    for (std::int64_t range = threadIdx.x / kWarpSize; range < num_ranges; range += kWarps) {
      total += sums[range * hidden + column];
    }
  }
  add_warps(total, column, hidden, is_adding, gradient);
}

// gradient[column] = the contributions of the units, each the sum over its ranges of sums[range,
// column], or += if it is adding.
__global__ void __launch_bounds__(kWarps* kWarpSize)
    add_units(const float* sums, std::int64_t num_units, std::int64_t ranges_of_unit, int hidden,
              Contributions contributions, bool is_adding, std::int64_t* gradient) {
  const std::int64_t column = std::int64_t{blockIdx.x} * kWarpSize + threadIdx.x % kWarpSize;
  std::int64_t total = 0;
  if (column < hidden) {
    unsigned refused = 0;
    for (std::int64_t unit = threadIdx.x / kWarpSize; unit < num_units; unit += kWarps) {
      const float* const of_unit = sums + unit * ranges_of_unit * hidden + column;
      float sum = 0.0F;
#pragma unroll 8
      for (std::int64_t range = 0; range < ranges_of_unit; ++range) {
        sum += of_unit[range * hidden];
      }
      total += contributions.of(sum, refused);
    }
    contributions.count(refused);
  }
  add_warps(total, column, hidden, is_adding, gradient);
}

// The sums of `num_units` units.
template <class L>
void launch_backward(const BackwardArguments<typename L::T>& given, const Ranges& ranges,
                     std::int64_t num_units, Tensor& sums, Stream& stream) {
  launch(given.dh.data != nullptr ? backward<L, true> : backward<L, false>,
         {num_units * ranges.of_unit, L::kThreads}, stream, given, ranges,
         device_data<float>(sums));
}

template <class L>
void backward_to_floats(const BackwardArguments<typename L::T>& given, GradientSum& gain_grad,
                        Stream& stream) {
  const std::int64_t num_ranges =
      std::min<std::int64_t>(std::int64_t{kBlocksAtOnce<L>} * num_multiprocessors(stream),
                             blocks_for(given.num_tokens, L::kRowsOfBlock));
  Tensor sums = Tensor::empty(Shape{num_ranges, given.hidden}, DType::kFloat32, stream);
  launch_backward<L>(given, {0, given.num_tokens, num_ranges}, 1, sums, stream);
  launch(add_ranges, {blocks_for(given.hidden, kWarpSize), kWarps * kWarpSize}, stream,
         device_data<float>(sums), num_ranges, given.hidden, !gain_grad.is_empty,
         device_data<float>(gain_grad.sum));
}

template <class L>
void backward_to_units(const BackwardArguments<typename L::T>& given, GradientSum& gain_grad,
                       Stream& stream) {
  constexpr std::int64_t kRowsOfRange = 8 * L::kRowsOfBlock;
  constexpr std::int64_t kSumsAtOnce = 4 << 20;  // 16 MiB, which the L2 cache keeps
  const std::int64_t unit_rows = gain_grad.unit_rows > 0 ? gain_grad.unit_rows : given.num_tokens;
  const std::int64_t num_units = given.num_tokens / unit_rows;
  const std::int64_t of_unit = blocks_for(unit_rows, kRowsOfRange);
  const std::int64_t at_once =
      std::clamp<std::int64_t>(kSumsAtOnce / (of_unit * given.hidden), 1, num_units);
  Tensor sums = Tensor::empty(Shape{at_once * of_unit, given.hidden}, DType::kFloat32, stream);
  for (std::int64_t first = 0; first < num_units; first += at_once) {
    const std::int64_t count = std::min(at_once, num_units - first);
    launch_backward<L>(given, {first * unit_rows, unit_rows, of_unit}, count, sums, stream);
    launch(add_units, {blocks_for(given.hidden, kWarpSize), kWarps * kWarpSize}, stream,
           device_data<float>(sums), count, of_unit, given.hidden, Contributions(gain_grad),
           !gain_grad.is_empty || first > 0, device_data<std::int64_t>(gain_grad.sum));
  }
}

// `dh` is null, or what is added to the gradient through the norm.
void rms_norm_backward_cuda(const Tensor& dy, const RmsNormInputs& norm, const Tensor* dh,
                            Tensor& dx, GradientSum& gain_grad, Stream& stream) {
  if (dy.size(0) == 0) {
    fill_if_empty(gain_grad, stream);
    return;
  }
  const auto hidden = static_cast<int>(norm.gain.size(0));
  with_activation_type(dx.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const MatrixRows<const T> added =
        dh != nullptr ? rows_of<T>(*dh) : MatrixRows<const T>{nullptr, 0};
    const bool is_packed =
        fits_packs<T>(hidden | dy.size(1) | norm.x.size(1) | dx.size(1) | added.stride,
                      {dy.raw(), norm.x.raw(), dx.raw(), norm.gain.raw(), added.data});
    const BackwardArguments<T> given{rows_of<T>(dy),
                                     rows_of<T>(norm.x),
                                     device_data<T>(norm.gain),
                                     device_data<float>(norm.inv_rms),
                                     added,
                                     rows_of<T>(dx),
                                     dy.size(0),
                                     hidden};
    with_layout<T>(hidden, is_packed, [&](auto layout) {
      using L = typename decltype(layout)::type;
      if (gain_grad.sum.dtype() == DType::kInt64) {
        backward_to_units<L>(given, gain_grad, stream);
      } else {
        backward_to_floats<L>(given, gain_grad, stream);
      }
    });
  });
}

const KernelRegistration register_backward(rms_norm_backward_slot, DeviceType::kCuda,
                                           rms_norm_backward_cuda);

}  // namespace
}  // namespace fathom::kernels
