#pragma once

#include <cuda_runtime.h>

namespace fathom::kernels::cuda {

// *to = value, for what is not read again soon: it leaves the cache before what other accesses
// brought there. Of T that a single access takes.
template <class T>
__device__ __forceinline__ void store_streaming(T* to, T value) {
#ifdef FATHOM_CUDA_EMULATED
  *to = value;
#else
  __stcs(to, value);
#endif
}

}  // namespace fathom::kernels::cuda
