#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/sm90_layout.h"

// The instructions of sm_90a that CUDA C++ has no words for: copies into shared memory that go on
// by themselves, barriers there, tensor loads, products of warpgroups. Each is one instruction of
// the PTX ISA, whose page of that name says what it does; the emulated device has its own of the
// same meaning.

#ifdef FATHOM_CUDA_EMULATED

#include <emulated_sm90.h>

namespace fathom::kernels::cuda {
using namespace emulator::sm90;  // NOLINT(google-build-using-namespace): the same names
}  // namespace fathom::kernels::cuda

#else

namespace fathom::kernels::cuda {

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// --- Copies that a thread begins and waits for later

// 16 bytes of device memory, or zeros, to dynamic shared memory; both addresses are multiples of
// 16.
__device__ __forceinline__ void begin_copy(const void* from, void* to, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(exists ? 16 : 0)
               : "memory");
}
// For all that this thread has begun; a barrier shows them to the others.
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}
// Brings 128 bytes to the second-level cache.
__device__ __forceinline__ void prefetch_line(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

// --- Barriers: a phase ends when `count` threads have arrived and all expected bytes are there.

__device__ __forceinline__ void mbarrier_init(std::uint64_t* barrier, unsigned count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count)
               : "memory");
}
// Makes initialized barriers visible to tensor loads; the block's threads need __syncthreads too.
__device__ __forceinline__ void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void mbarrier_arrive(std::uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
}
// Arrives, and lets the phase wait for that many bytes more.
__device__ __forceinline__ void mbarrier_arrive_expect(std::uint64_t* barrier, unsigned bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}
// Waits for the end of the phase of that parity: the first phase has parity 0, and a new barrier
// counts as after one of parity 1.
__device__ __forceinline__ void mbarrier_wait(std::uint64_t* barrier, unsigned parity) {
  unsigned has_ended = 0;
  while (has_ended == 0) {
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
        "selp.u32 %0, 1, 0, ended;\n"
        "}"
        : "=r"(has_ended)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  }
}
// Of `num_threads` threads of the block, whole warps; 0 is the barrier of __syncthreads.
__device__ __forceinline__ void sync_named_barrier(int barrier, int num_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(num_threads) : "memory");
}

// --- Tensor loads

__device__ __forceinline__ void prefetch_tensor_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}
// The box of a tensor at (x, y, z), x the contiguous dimension; zero where it is outside. Its bytes
// arrive at the barrier.
__device__ __forceinline__ void load_box(const CUtensorMap& map, std::uint64_t* barrier, void* to,
                                         int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(to)),
      "l"(&map), "r"(x), "r"(y), "r"(z), "r"(shared_address(barrier))
      : "memory");
}
// Orders a thread's own reads and writes of shared memory before what tensor loads and wgmma do
// there later.
__device__ __forceinline__ void async_proxy_fence() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// A load of 16 bytes that the compiler leaves where it is: it moves plain ones down to their first
// use, where each would wait alone.
__device__ __forceinline__ float4 load_in_place(const float* from) {
  float4 value;
  asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "l"(from)
               : "memory");
  return value;
}

// --- Products of a warpgroup

template <int kCount>
__device__ __forceinline__ void raise_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void lower_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}

// Before the first product, and after other writes of its accumulators or of shared memory.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until all but the last kPending committed groups are done.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Keeps the compiler from moving uses of an accumulator over this place: to it, a product is done
// when it is issued.
template <int kCount>
__device__ __forceinline__ void hold_accumulator(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+f"(d[i])::"memory");
  }
}

#define FATHOM_REGISTERS_8(d, i)                                                              \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define FATHOM_REGISTERS_32(d, i)                                                        \
  FATHOM_REGISTERS_8(d, i), FATHOM_REGISTERS_8(d, i + 8), FATHOM_REGISTERS_8(d, i + 16), \
      FATHOM_REGISTERS_8(d, i + 24)
#define FATHOM_REGISTERS_64(d) FATHOM_REGISTERS_32(d, 0), FATHOM_REGISTERS_32(d, 32)
#define FATHOM_REGISTERS_128(d)                                                      \
  FATHOM_REGISTERS_32(d, 0), FATHOM_REGISTERS_32(d, 32), FATHOM_REGISTERS_32(d, 64), \
      FATHOM_REGISTERS_32(d, 96)

// d += a b of 64 x kColumns x 16: bfloat16 by descriptors (sm90_layout.h), sums in float. Done when
// waited for; until then neither d nor the operands may be touched.
template <int kColumns, Major kA, Major kB>
  requires(kColumns == 128)
__device__ __forceinline__ void wgmma(float (&d)[64], std::uint64_t a, std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, %64, %65, 1, 1, 1, %66, %67;"
      : FATHOM_REGISTERS_64(d)
      : "l"(a), "l"(b), "n"(kA == Major::kMN), "n"(kB == Major::kMN));
}

template <int kColumns, Major kA, Major kB>
  requires(kColumns == 256)
__device__ __forceinline__ void wgmma(float (&d)[128], std::uint64_t a, std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, "
      "%127"
      "}, %128, %129, 1, 1, 1, %130, %131;"
      : FATHOM_REGISTERS_128(d)
      : "l"(a), "l"(b), "n"(kA == Major::kMN), "n"(kB == Major::kMN));
}

#undef FATHOM_REGISTERS_8
#undef FATHOM_REGISTERS_32
#undef FATHOM_REGISTERS_64
#undef FATHOM_REGISTERS_128

}  // namespace fathom::kernels::cuda

#endif
