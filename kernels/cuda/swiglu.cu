#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/swiglu.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;

__device__ __forceinline__ float sigmoid(float x) { return 1.0F / (1.0F + __expf(-x)); }

// One thread makes N neighbours of a row.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    forward(const T* gate_up, T* y, std::int64_t num_packs, std::int64_t packs_of_row) {
  const std::int64_t pack = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (pack >= num_packs) {
    return;
  }
  const std::int64_t size = packs_of_row * N;
  const T* row = gate_up + pack / packs_of_row * 2 * size;
  const std::int64_t column = pack % packs_of_row * N;
  float gate[N];
  float up[N];
  load_floats<N>(row + column, gate);
  load_floats<N>(row + size + column, up);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    gate[i] = gate[i] * sigmoid(gate[i]) * up[i];
  }
  store_floats<N>(gate, y + pack * N);
}

// Reads before it writes: d_gate_up may be gate_up.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    backward(const T* dy, const T* gate_up, T* d_gate_up, std::int64_t num_packs,
             std::int64_t packs_of_row) {
  const std::int64_t pack = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (pack >= num_packs) {
    return;
  }
  const std::int64_t size = packs_of_row * N;
  const std::int64_t place = pack / packs_of_row * 2 * size + pack % packs_of_row * N;
  float gradient[N];
  float gate[N];
  float up[N];
  load_floats<N>(dy + pack * N, gradient);
  load_floats<N>(gate_up + place, gate);
  load_floats<N>(gate_up + place + size, up);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float share = sigmoid(gate[i]);
    const float d_silu = share * fmaf(gate[i], 1.0F - share, 1.0F);  // fused whatever N is
    const float silu = gate[i] * share;
    gate[i] = gradient[i] * up[i] * d_silu;
    up[i] = gradient[i] * silu;
  }
  store_floats<N>(gate, d_gate_up + place);
  store_floats<N>(up, d_gate_up + place + size);
}

template <class T, int N>
void launch_forward(const Tensor& gate_up, Tensor& y, Stream& stream) {
  const std::int64_t num_packs = y.numel() / N;
  launch(forward<T, N>, {blocks_for(num_packs, kThreads), kThreads}, stream,
         device_data<T>(gate_up), device_data<T>(y), num_packs, y.size(1) / N);
}

void swiglu_forward_cuda(const Tensor& gate_up, Tensor& y, Stream& stream) {
  with_activation_type(y.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (fits_packs<T>(y.size(1), {gate_up.raw(), y.raw()})) {
      launch_forward<T, kPackSize<T>>(gate_up, y, stream);
    } else {
      launch_forward<T, 1>(gate_up, y, stream);
    }
  });
}

template <class T, int N>
void launch_backward(const Tensor& dy, const Tensor& gate_up, Tensor& d_gate_up, Stream& stream) {
  const std::int64_t num_packs = dy.numel() / N;
  launch(backward<T, N>, {blocks_for(num_packs, kThreads), kThreads}, stream, device_data<T>(dy),
         device_data<T>(gate_up), device_data<T>(d_gate_up), num_packs, dy.size(1) / N);
}

void swiglu_backward_cuda(const Tensor& dy, const Tensor& gate_up, Tensor& d_gate_up,
                          Stream& stream) {
  with_activation_type(dy.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (fits_packs<T>(dy.size(1), {dy.raw(), gate_up.raw(), d_gate_up.raw()})) {
      launch_backward<T, kPackSize<T>>(dy, gate_up, d_gate_up, stream);
    } else {
      launch_backward<T, 1>(dy, gate_up, d_gate_up, stream);
    }
  });
}

const KernelRegistration register_forward(swiglu_forward_slot, DeviceType::kCuda,
                                          swiglu_forward_cuda);
const KernelRegistration register_backward(swiglu_backward_slot, DeviceType::kCuda,
                                           swiglu_backward_cuda);

}  // namespace
}  // namespace fathom::kernels
