#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels/cuda/device_tensor.cuh"
#include "kernels/gradient_sum.h"

namespace fathom::kernels::cuda {

// How kernels make the contributions of an int64 GradientSum: integers, so that atomic additions of
// them leave no trace of their order.
struct Contributions {
  explicit Contributions(GradientSum& gradient)
      : scale(static_cast<float>(std::ldexp(1.0, gradient.fraction_bits))),
        limit(gradient.limit),
        num_refused(device_data<unsigned long long>(gradient.num_refused)) {}

  float scale;
  float limit;
  unsigned long long* num_refused;

  // x as a multiple of 2^-fraction_bits, to nearest, ties to even; 0 where it is refused, which
  // `refused` counts.
  __device__ std::int64_t of(float x, unsigned& refused) const {
    const bool is_taken = fabsf(x) < limit;  // not NaN
    refused += is_taken ? 0 : 1;
    return __float2ll_rn(is_taken ? x * scale : 0.0F);  // the product does not round
  }
  // What a thread has refused; seldom anything.
  __device__ void count(unsigned refused) const {
    if (refused > 0) {
      atomicAdd(num_refused, static_cast<unsigned long long>(refused));
    }
  }
};

// sum += x, in any order.
__device__ __forceinline__ void add_atomically(std::int64_t* sum, std::int64_t x) {
  atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(x));
}

}  // namespace fathom::kernels::cuda
