#include <limits>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/streaming_store.cuh"
#include "kernels/permute.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kWarps = 8;  // of a block
constexpr int kThreads = kWarps * kWarpSize;

__device__ __forceinline__ int lane_of_thread() {
  return static_cast<int>(threadIdx.x) % kWarpSize;
}
__device__ __forceinline__ std::int64_t warp_of_grid() {
  return std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize;
}

// --- Copies of whole rows, whatever their dtype

// A Unit of ones only: NaN in bfloat16 and in float32.
__device__ __forceinline__ void set_nan(uint4& unit) { unit = make_uint4(~0U, ~0U, ~0U, ~0U); }
__device__ __forceinline__ void set_nan(std::uint32_t& unit) { unit = ~0U; }
__device__ __forceinline__ void set_nan(std::uint16_t& unit) { unit = 0xffffU; }

template <class Unit>
struct RowCopy {
  const Unit* source;
  const std::int32_t* index;
  Unit* destination;
  std::int64_t num_source_rows;
  std::int64_t num_rows;
  std::int64_t row_units;
  std::int32_t divisor;
};

// destination[i] = source[index[i] / divisor], a warp a row. The rows that are written leave the
// cache first, so that a source row which goes to several places is read from memory once.
template <class Unit>
__global__ void __launch_bounds__(kThreads) copy_rows(RowCopy<Unit> copy) {
  constexpr int kInFlight = 4;  // loads of a lane before its first store
  const std::int64_t row = warp_of_grid();
  if (row >= copy.num_rows) {
    return;
  }
  const std::int32_t index = copy.index[row];
  const std::int64_t source_row = index / copy.divisor;
  const bool is_inside = index >= 0 && source_row < copy.num_source_rows;
  const Unit* from = copy.source + (is_inside ? source_row : 0) * copy.row_units;
  Unit* to = copy.destination + row * copy.row_units;
  for (std::int64_t first = lane_of_thread(); first < copy.row_units;
       first += kInFlight * kWarpSize) {
    Unit units[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      set_nan(units[i]);
      if (is_inside && first + i * kWarpSize < copy.row_units) {
        units[i] = from[first + i * kWarpSize];
      }
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (first + i * kWarpSize < copy.row_units) {
        store_streaming(to + first + i * kWarpSize, units[i]);
      }
    }
  }
}

template <class Unit>
void launch_copy(const Tensor& source, const Tensor& index, std::int32_t divisor,
                 Tensor& destination, Stream& stream) {
  const std::int64_t row_bytes = destination.size(1) * size_of(destination.dtype());
  const RowCopy<Unit> copy{reinterpret_cast<const Unit*>(source.raw()),
                           device_data<std::int32_t>(index),
                           reinterpret_cast<Unit*>(destination.raw()),
                           source.size(0),
                           destination.size(0),
                           row_bytes / static_cast<std::int64_t>(sizeof(Unit)),
                           divisor};
  launch(copy_rows<Unit>, {blocks_for(copy.num_rows, kWarps), kThreads}, stream, copy);
}

void copy_rows_cuda(const Tensor& source, const Tensor& index, std::int32_t divisor,
                    Tensor& destination, Stream& stream) {
  with_activation_type(destination.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (fits_packs<T>(destination.size(1), {source.raw(), destination.raw()})) {
      launch_copy<uint4>(source, index, divisor, destination, stream);
    } else if (sizeof(T) == sizeof(std::uint32_t)) {
      launch_copy<std::uint32_t>(source, index, divisor, destination, stream);
    } else {
      launch_copy<std::uint16_t>(source, index, divisor, destination, stream);
    }
  });
}

void gather_rows_cuda(const Tensor& source, const Tensor& index, Tensor& destination,
                      Stream& stream) {
  copy_rows_cuda(source, index, 1, destination, stream);
}

void permute_forward_cuda(const Tensor& x, const Tensor& slot_of_row, int top_k, Tensor& rows,
                          Stream& stream) {
  copy_rows_cuda(x, slot_of_row, top_k, rows, stream);
}

// --- Sums of the rows of each token

template <class T>
struct RowSum {
  const T* rows;
  const std::int32_t* row_of_slot;
  const float* gates;  // not read by sums without
  T* sums;             // [num_tokens, hidden_size]
  std::uint32_t num_warps;
  std::uint32_t warps_of_token;
  std::int64_t hidden_size;
  int top_k;
};

// sums[t] = (or +=) the sum of the rows, or of gate * row, in slot order. A lane makes N
// neighbours of one token.
template <class T, int N, bool kGated, bool kAccumulates>
__global__ void __launch_bounds__(kThreads) sum_rows(RowSum<T> task) {
  const auto warp = static_cast<std::uint32_t>(warp_of_grid());
  const std::uint32_t token = warp / task.warps_of_token;
  const std::int64_t column =
      (std::int64_t{warp - token * task.warps_of_token} * kWarpSize + lane_of_thread()) * N;
  if (warp >= task.num_warps || column >= task.hidden_size) {
    return;
  }
  const std::int64_t first_slot = std::int64_t{token} * task.top_k;
  float sum[N] = {};
#pragma unroll 4
  for (int j = 0; j < task.top_k; ++j) {
    float row[N];
    load_floats<N>(task.rows + task.row_of_slot[first_slot + j] * task.hidden_size + column, row);
    const float gate = kGated ? task.gates[first_slot + j] : 1.0F;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      sum[i] = __fmaf_rn(gate, row[i], sum[i]);
    }
  }
  T* to = task.sums + token * task.hidden_size + column;
  if constexpr (kAccumulates) {
    float before[N];
    load_floats<N>(to, before);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      sum[i] += before[i];
    }
  }
  store_floats<N>(sum, to);
}

template <int N, bool kGated, bool kAccumulates, class T>
void launch_sum(RowSum<T> task, std::int64_t num_tokens, Stream& stream) {
  const std::int64_t warps_of_token = blocks_for(task.hidden_size, std::int64_t{N} * kWarpSize);
  const std::int64_t num_warps = num_tokens * warps_of_token;
  FATHOM_CHECK(num_warps <= std::numeric_limits<std::int32_t>::max(), num_tokens, " tokens of ",
               task.hidden_size);
  task.num_warps = static_cast<std::uint32_t>(num_warps);
  task.warps_of_token = static_cast<std::uint32_t>(warps_of_token);
  launch(sum_rows<T, N, kGated, kAccumulates>, {blocks_for(num_warps, kWarps), kThreads}, stream,
         task);
}

template <bool kGated, bool kAccumulates>
void sum_rows_cuda(const Tensor& rows, const Tensor& row_of_slot, const Tensor* gates, Tensor& sums,
                   Stream& stream) {
  if (sums.numel() == 0) {
    return;
  }
  with_activation_type(sums.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const RowSum<T> task{.rows = device_data<T>(rows),
                         .row_of_slot = device_data<std::int32_t>(row_of_slot),
                         .gates = gates == nullptr ? nullptr : device_data<float>(*gates),
                         .sums = device_data<T>(sums),
                         .num_warps = 0,
                         .warps_of_token = 0,
                         .hidden_size = sums.size(1),
                         .top_k = static_cast<int>(rows.size(0) / sums.size(0))};
    if (fits_packs<T>(task.hidden_size, {task.rows, task.sums})) {
      launch_sum<kPackSize<T>, kGated, kAccumulates>(task, sums.size(0), stream);
    } else {
      launch_sum<1, kGated, kAccumulates>(task, sums.size(0), stream);
    }
  });
}

void permute_backward_cuda(const Tensor& d_rows, const Tensor& row_of_slot, Tensor& dx,
                           bool accumulate, Stream& stream) {
  if (accumulate) {
    sum_rows_cuda<false, true>(d_rows, row_of_slot, nullptr, dx, stream);
  } else {
    sum_rows_cuda<false, false>(d_rows, row_of_slot, nullptr, dx, stream);
  }
}

void combine_forward_cuda(const Tensor& rows, const Tensor& row_of_slot, const Tensor& gates,
                          Tensor& y, Stream& stream) {
  sum_rows_cuda<true, true>(rows, row_of_slot, &gates, y, stream);
}

// --- The gradients of a gated sum

template <class T>
struct SlotGradients {
  const T* dy;
  const T* rows;
  const std::int32_t* row_of_slot;
  const float* gates;
  T* d_rows;
  float* d_gates;
  std::int64_t num_slots;
  std::int64_t hidden_size;
  int top_k;
};

// A warp a slot. The slots of a token are neighbours, so that dy comes from the cache but once. An
// access takes kPiece elements, which does not show in the sum.
template <class T, int N, int kPiece>
__global__ void __launch_bounds__(kThreads) combine_backward(SlotGradients<T> task) {
  constexpr int kInFlight = 2;
  constexpr std::int64_t kStride = std::int64_t{N} * kWarpSize;
  const std::int64_t slot = warp_of_grid();
  if (slot >= task.num_slots) {
    return;
  }
  const T* dy = task.dy + static_cast<std::int32_t>(slot) / task.top_k * task.hidden_size;
  const std::int64_t first_of_row = task.row_of_slot[slot] * task.hidden_size;
  const float gate = task.gates[slot];
  float dot = 0.0F;
  for (std::int64_t first = std::int64_t{lane_of_thread()} * N; first < task.hidden_size;
       first += kInFlight * kStride) {
    float gradient[kInFlight][N] = {};
    float row[kInFlight][N] = {};
#pragma unroll
    for (int part = 0; part < kInFlight; ++part) {
      const std::int64_t column = first + part * kStride;
      if (column < task.hidden_size) {
        load_pieces<kPiece>(dy + column, gradient[part]);
        load_pieces<kPiece>(task.rows + first_of_row + column, row[part]);
      }
    }
#pragma unroll
    for (int part = 0; part < kInFlight; ++part) {
      const std::int64_t column = first + part * kStride;
#pragma unroll
      for (int i = 0; i < N; ++i) {
        dot = __fmaf_rn(gradient[part][i], row[part][i], dot);
        gradient[part][i] *= gate;
      }
      if (column < task.hidden_size) {
        store_pieces<kPiece>(gradient[part], task.d_rows + first_of_row + column);
      }
    }
  }
  dot = reduce_warp<Sum>(dot);
  if (lane_of_thread() == 0) {
    task.d_gates[slot] = dot;
  }
}

void combine_backward_cuda(const Tensor& dy, const Tensor& rows, const Tensor& row_of_slot,
                           const Tensor& gates, Tensor& d_rows, Tensor& d_gates, Stream& stream) {
  with_activation_type(dy.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const SlotGradients<T> task{device_data<T>(dy),
                                device_data<T>(rows),
                                device_data<std::int32_t>(row_of_slot),
                                device_data<float>(gates),
                                device_data<T>(d_rows),
                                device_data<float>(d_gates),
                                gates.numel(),
                                dy.size(1),
                                static_cast<int>(gates.size(1))};
    constexpr int kPack = kPackSize<T>;
    // Whose sums hidden_size alone settles, not the addresses.
    auto* const by_elements =
        task.hidden_size % kPack == 0 ? combine_backward<T, kPack, 1> : combine_backward<T, 1, 1>;
    const bool takes_packs = fits_packs<T>(task.hidden_size, {task.dy, task.rows, task.d_rows});
    launch(takes_packs ? combine_backward<T, kPack, kPack> : by_elements,
           {blocks_for(task.num_slots, kWarps), kThreads}, stream, task);
  });
}

const KernelRegistration register_gather_rows(gather_rows_slot, DeviceType::kCuda,
                                              gather_rows_cuda);
const KernelRegistration register_permute_forward(permute_forward_slot, DeviceType::kCuda,
                                                  permute_forward_cuda);
const KernelRegistration register_permute_backward(permute_backward_slot, DeviceType::kCuda,
                                                   permute_backward_cuda);
const KernelRegistration register_combine_forward(combine_forward_slot, DeviceType::kCuda,
                                                  combine_forward_cuda);
const KernelRegistration register_combine_backward(combine_backward_slot, DeviceType::kCuda,
                                                   combine_backward_cuda);

}  // namespace
}  // namespace fathom::kernels
