#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace fathom::kernels::cuda {

// RandomSource::bits and uniform (core/rng.h) of a source with this key, bit for bit.
__device__ __forceinline__ unsigned long long random_bits(uint2 key, unsigned long long index) {
  uint4 counter =
      make_uint4(static_cast<unsigned>(index), static_cast<unsigned>(index >> 32), 0, 0);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned low_a = 0xD2511F53U * counter.x;
    const unsigned high_a = __umulhi(0xD2511F53U, counter.x);
    const unsigned low_b = 0xCD9E8D57U * counter.z;
    const unsigned high_b = __umulhi(0xCD9E8D57U, counter.z);
    counter = make_uint4(high_b ^ counter.y ^ key.x, low_b, high_a ^ counter.w ^ key.y, low_a);
    key.x += 0x9E3779B9U;
    key.y += 0xBB67AE85U;
  }
  return static_cast<unsigned long long>(counter.y) << 32 | counter.x;
}

__device__ __forceinline__ double uniform_of(unsigned long long bits) {
  return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
}

}  // namespace fathom::kernels::cuda
