// Kernels of known machine code for check_cuda_build_test.py, which compiles this file with nvcc;
// nothing runs it.
#include <cstdint>

extern "C" {

__global__ void uses_wgmma(float* y, std::uint64_t a, std::uint64_t b) {
  float d[4] = {y[0], y[1], y[2], y[3]};
  asm volatile("wgmma.fence.sync.aligned;");
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, 1, 0;"
      "  wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %5, p, 1, 1, 0, "
      "0; }"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "l"(a), "l"(b));
  asm volatile("wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;");
  for (int i = 0; i < 4; ++i) {
    y[threadIdx.x * 4 + i] = d[i];
  }
}

__global__ void uses_mma_sync(float* y, const std::uint32_t* x) {
  float d[4] = {0, 0, 0, 0};
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(x[4]), "r"(x[5]));
  y[threadIdx.x] = d[0] + d[1] + d[2] + d[3];
}

__global__ void uses_tma(const __grid_constant__ std::uint64_t map, float* y) {
  __shared__ alignas(128) float tile[64];
  __shared__ std::uint64_t barrier;
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], [%4];" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(tile))),
      "l"(&map), "r"(0), "r"(0), "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(&barrier)))
      : "memory");
  y[threadIdx.x] = tile[threadIdx.x];
}

__global__ void uses_local_memory(float* y, const int* place) {
  float values[64];
  for (int i = 0; i < 64; ++i) {
    values[i] = y[i];
  }
  for (int i = 0; i < 64; ++i) {
    values[place[i]] += values[place[i + 1]];
  }
  y[0] = values[place[0]];
}

__global__ void uses_nothing(float* y) { y[threadIdx.x] *= 2; }

}  // extern "C"
