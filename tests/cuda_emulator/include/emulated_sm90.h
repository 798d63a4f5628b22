#pragma once

// Instructions of sm_90a on the emulated device, by their pages in the PTX ISA: cp.async, mbarrier,
// cp.async.bulk.tensor, wgmma. Their names and parameters are those of kernels/cuda/sm90.cuh.
// What is asynchronous is done at the worst time that is allowed: a copy overwrites its place at
// once, with NaN, and is there when it is waited for; a tensor load writes at once,
// when its buffer may still be read; a product reads its operands when it is waited for, when they
// may have been overwritten, or later still, and its accumulator holds the old sum until then. Not
// emulated: proxies, that is, a missing fence.proxy.async does not show.

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/sm90_layout.h"

namespace fathom::emulator::sm90 {

// Bytes from the start of dynamic shared memory, the only part that these instructions can name.
std::uint32_t shared_address(const void* pointer);

void begin_copy(const void* from, void* to, bool exists);
void wait_for_copies();
inline void prefetch_line(const void* /*from*/) {}

void mbarrier_init(std::uint64_t* barrier, unsigned count);
inline void mbarrier_init_fence() {}
void mbarrier_arrive(std::uint64_t* barrier);
void mbarrier_arrive_expect(std::uint64_t* barrier, unsigned bytes);
void mbarrier_wait(const std::uint64_t* barrier, unsigned parity);
inline void sync_named_barrier(int barrier, int num_threads) { sync_named(barrier, num_threads); }

inline void prefetch_tensor_map(const CUtensorMap& /*map*/) {}
void load_box(const CUtensorMap& map, std::uint64_t* barrier, void* to, int x, int y, int z);
inline void async_proxy_fence() {}
inline float4 load_in_place(const float* from) { return *reinterpret_cast<const float4*>(from); }

template <int kCount>
void raise_registers() {}
template <int kCount>
void lower_registers() {}

// One thread's share of a product of its warpgroup.
struct Product {
  float* d = nullptr;
  int num_columns = 0;
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  bool a_is_mn_major = false;
  bool b_is_mn_major = false;
};
void issue(const Product& product);
void wait_for_products(int num_pending_groups);

inline void wgmma_fence() {}
void wgmma_commit();
template <int kPending>
void wgmma_wait() {
  wait_for_products(kPending);
}
template <int kCount>
void hold_accumulator(float (& /*d*/)[kCount]) {}

template <int kColumns, kernels::cuda::Major kA, kernels::cuda::Major kB>
void wgmma(float (&d)[kColumns / 2], std::uint64_t a, std::uint64_t b) {
  issue({.d = d,
         .num_columns = kColumns,
         .a = a,
         .b = b,
         .a_is_mn_major = kA == kernels::cuda::Major::kMN,
         .b_is_mn_major = kB == kernels::cuda::Major::kMN});
}

}  // namespace fathom::emulator::sm90
