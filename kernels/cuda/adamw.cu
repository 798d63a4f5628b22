#include "core/cuda/launch.cuh"
#include "kernels/adamw.h"
#include "kernels/cuda/device_tensor.cuh"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kNeighbours = 8;  // of a thread: accesses of 16 bytes for bfloat16, two for float32

template <class Value, class Grad, class Average, class Square>
struct Operands {
  Value* value;  // null when it is the master
  float* master;
  const Grad* grad;
  Average* exp_avg;
  Square* exp_avg_sq;
  const float* grad_scale;  // null: 1
};

// N neighbours by accesses of at most 16 bytes.
template <int N, class T>
__device__ __forceinline__ void load_all(const T* from, float (&to)[N]) {
  constexpr int kPack = N < kPackSize<T> ? N : kPackSize<T>;
#pragma unroll
  for (int first = 0; first < N; first += kPack) {
    load_floats<kPack>(from + first, reinterpret_cast<float(&)[kPack]>(to[first]));
  }
}
template <int N, class T>
__device__ __forceinline__ void store_all(const float (&from)[N], T* to) {
  constexpr int kPack = N < kPackSize<T> ? N : kPackSize<T>;
#pragma unroll
  for (int first = 0; first < N; first += kPack) {
    store_floats<kPack>(reinterpret_cast<const float(&)[kPack]>(from[first]), to + first);
  }
}

// One element, each operation rounded, as on the CPU: the intrinsics are never fused.
__device__ __forceinline__ void update(const AdamWConstants& constants, float gradient,
                                       float& master, float& m, float& v) {
  m = __fadd_rn(__fmul_rn(constants.beta1, m), __fmul_rn(constants.one_minus_beta1, gradient));
  v = __fadd_rn(__fmul_rn(constants.beta2, v),
                __fmul_rn(constants.one_minus_beta2, __fmul_rn(gradient, gradient)));
  const float root =
      __fadd_rn(__fsqrt_rn(__fmul_rn(v, constants.exp_avg_sq_factor)), constants.epsilon);
  const float change = __fadd_rn(__fdiv_rn(__fmul_rn(constants.step_size, m), root),
                                 __fmul_rn(constants.decay, master));
  master = __fsub_rn(master, change);
}

template <int N, class Value, class Grad, class Average, class Square>
__device__ __forceinline__ void update_neighbours(
    const AdamWConstants& constants, const Operands<Value, Grad, Average, Square>& operands,
    float grad_scale, std::int64_t first) {
  float grad[N];
  float master[N];
  float m[N];
  float v[N];
  load_all(operands.grad + first, grad);
  load_all(operands.master + first, master);
  load_all(operands.exp_avg + first, m);
  load_all(operands.exp_avg_sq + first, v);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    update(constants, __fmul_rn(grad[i], grad_scale), master[i], m[i], v[i]);
  }
  store_all(master, operands.master + first);
  store_all(m, operands.exp_avg + first);
  store_all(v, operands.exp_avg_sq + first);
  if (operands.value != nullptr) {
    store_all(master, operands.value + first);
  }
}

// One thread updates N neighbours; the last one those that are left over.
template <int N, class Value, class Grad, class Average, class Square>
__global__ void __launch_bounds__(kThreads)
    step(const AdamWConstants constants, const Operands<Value, Grad, Average, Square> operands,
         std::int64_t count) {
  const std::int64_t first = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  const float grad_scale = operands.grad_scale == nullptr ? 1.0F : *operands.grad_scale;
  if (!(grad_scale == grad_scale)) {  // NaN
    return;
  }
  if (first + N <= count) {
    update_neighbours<N>(constants, operands, grad_scale, first);
    return;
  }
  for (std::int64_t i = first; i < count; ++i) {
    update_neighbours<1>(constants, operands, grad_scale, i);
  }
}

void adamw_step_cuda(const AdamWOptions& options, const Tensor& grad, Tensor& master, Tensor& value,
                     Tensor& exp_avg, Tensor& exp_avg_sq, Stream& stream) {
  const AdamWConstants constants(options);
  const auto run = [&](auto value_tag, auto grad_tag, auto average_tag, auto square_tag) {
    using Value = typename decltype(value_tag)::type;
    using Grad = typename decltype(grad_tag)::type;
    using Average = typename decltype(average_tag)::type;
    using Square = typename decltype(square_tag)::type;
    const Operands<Value, Grad, Average, Square> operands{
        value.raw() == master.raw() ? nullptr : device_data<Value>(value),
        device_data<float>(master),
        device_data<Grad>(grad),
        device_data<Average>(exp_avg),
        device_data<Square>(exp_avg_sq),
        options.grad_scale.defined() ? device_data<float>(options.grad_scale) : nullptr};
    const std::int64_t count = master.numel();
    if (fits_packs<float>(
            0, {value.raw(), master.raw(), grad.raw(), exp_avg.raw(), exp_avg_sq.raw()})) {
      launch(step<kNeighbours, Value, Grad, Average, Square>,
             {blocks_for(count, kThreads * kNeighbours), kThreads}, stream, constants, operands,
             count);
    } else {
      launch(step<1, Value, Grad, Average, Square>, {blocks_for(count, kThreads), kThreads}, stream,
             constants, operands, count);
    }
  };
  with_activation_type(value.dtype(), [&](auto value_tag) {
    with_activation_type(grad.dtype(), [&](auto grad_tag) {
      with_activation_type(exp_avg.dtype(), [&](auto average_tag) {
        with_activation_type(exp_avg_sq.dtype(), [&](auto square_tag) {
          run(value_tag, grad_tag, average_tag, square_tag);
        });
      });
    });
  });
}

const KernelRegistration register_step(adamw_step_slot, DeviceType::kCuda, adamw_step_cuda);

}  // namespace
}  // namespace fathom::kernels
