#pragma once

// The part of CUDA that Fathom's kernels and runtime use, on CPU threads: for tests on machines
// without a GPU. A block runs on the calling thread, its CUDA threads as fibers that give way at
// barriers and warp operations, so that a missing barrier shows as a wrong result and one that not
// all threads reach as an error. Blocks run one after another; streams are done at once, and a
// capture keeps kernels, copies and products as they were given. Memory of the device can be
// touched by kernels and copies alone: a host that reads it crashes. What is not emulated: the
// memory model between warps without barriers, divergence inside a warp operation (all lanes must
// take part), occupancy, speed.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <tuple>
#include <utility>
#include <vector>

#define FATHOM_CUDA_EMULATED 1

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static thread_local
#define __align__(n) alignas(n)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_size = 1, unsigned y_size = 1, unsigned z_size = 1)
      : x(x_size), y(y_size), z(z_size) {}
};
struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

// --- The runtime

using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;

enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorIllegalState = 401,
};
enum cudaMemcpyKind : int {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault,
};
inline constexpr unsigned cudaStreamNonBlocking = 1;
inline constexpr unsigned cudaEventDefault = 0;
inline constexpr unsigned cudaEventDisableTiming = 2;
enum cudaStreamCaptureMode : int {
  cudaStreamCaptureModeGlobal,
  cudaStreamCaptureModeThreadLocal,
  cudaStreamCaptureModeRelaxed,
};
enum cudaFuncAttribute : int { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr : int {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
};
enum cudaDriverEntryPointQueryResult : int {
  cudaDriverEntryPointSuccess = 0,
  cudaDriverEntryPointSymbolNotFound = 1,
};
inline constexpr unsigned long long cudaEnableDefault = 0;

struct cudaUUID_t {
  char bytes[16];
};
struct cudaDeviceProp {
  cudaUUID_t uuid;
};

struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes);
cudaError_t cudaMallocHost(void** memory, std::size_t bytes);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMallocAsync(void** memory, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned version,
                                             unsigned long long flags,
                                             cudaDriverEntryPointQueryResult* found);

// --- Inside a kernel

namespace fathom::emulator {

struct ThreadState {
  uint3 thread, block;
  dim3 block_size, grid_size;
  std::byte* dynamic_shared = nullptr;
  // Asynchronous work of the thread that it has not waited for, in the groups that were committed.
  std::vector<std::function<void()>> begun_work;
  std::deque<std::vector<std::function<void()>>> committed_work;
  // Copies that it has begun and not waited for.
  struct Copy {
    const void* from;  // null: zeros
    void* to;
  };
  std::vector<Copy> begun_copies;
  int lane() const { return static_cast<int>(thread.x % 32); }
};
extern thread_local ThreadState* current;

// Work of a stream: done at once, or kept while the stream is captured.
void submit(cudaStream_t stream, std::function<void()> work);

void run(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& thread_body);
void sync_threads();
void sync_named(int barrier, int num_threads);
void give_way();           // lets other threads of the block run
void progress() noexcept;  // tells the search for deadlocks that something has changed
// All 32 lanes give a value and get everybody's, by lane; valid until the lane's next warp
// operation.
const std::uint64_t* exchange_in_warp(std::uint64_t value);
[[noreturn]] void fail(const char* message);

// Makes the device's memory accessible to this process while it lives.
class MemoryAccess {
 public:
  MemoryAccess();
  ~MemoryAccess();
  MemoryAccess(const MemoryAccess&) = delete;
  MemoryAccess& operator=(const MemoryAccess&) = delete;
};

template <class T>
std::uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <class T>
T from_bits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
inline void check_mask(unsigned mask) {
  if (mask != 0xffffffffU) {
    fail("a warp operation without all lanes is not emulated");
  }
}

}  // namespace fathom::emulator

// Of the thread that runs.
extern thread_local uint3 threadIdx;
extern thread_local uint3 blockIdx;
extern thread_local dim3 blockDim;
extern thread_local dim3 gridDim;

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  std::tuple<std::decay_t<Parameters>...> copies(std::forward<Arguments>(arguments)...);
  fathom::emulator::submit(config->stream, [shape = *config, kernel, copies = std::move(copies)] {
    fathom::emulator::run(shape.gridDim, shape.blockDim, shape.dynamicSmemBytes,
                          [&] { std::apply(kernel, copies); });
  });
  return cudaSuccess;
}

inline void __syncthreads() { fathom::emulator::sync_threads(); }
inline void __syncwarp(unsigned mask = 0xffffffffU) {
  fathom::emulator::check_mask(mask);
  fathom::emulator::exchange_in_warp(0);
}
inline void __threadfence() {}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  fathom::emulator::check_mask(mask);
  const std::uint64_t* all = fathom::emulator::exchange_in_warp(fathom::emulator::to_bits(value));
  const int own = fathom::emulator::current->lane();
  return fathom::emulator::from_bits<T>(all[own / width * width + lane % width]);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  fathom::emulator::check_mask(mask);
  const std::uint64_t* all = fathom::emulator::exchange_in_warp(fathom::emulator::to_bits(value));
  const int own = fathom::emulator::current->lane();
  const int from = own ^ lanes;
  return fathom::emulator::from_bits<T>(all[from / width == own / width ? from : own]);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int delta, int width = 32) {
  fathom::emulator::check_mask(mask);
  const std::uint64_t* all = fathom::emulator::exchange_in_warp(fathom::emulator::to_bits(value));
  const int own = fathom::emulator::current->lane();
  return fathom::emulator::from_bits<T>(all[own % width + delta < width ? own + delta : own]);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int delta, int width = 32) {
  fathom::emulator::check_mask(mask);
  const std::uint64_t* all = fathom::emulator::exchange_in_warp(fathom::emulator::to_bits(value));
  const int own = fathom::emulator::current->lane();
  return fathom::emulator::from_bits<T>(all[own % width >= delta ? own - delta : own]);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  fathom::emulator::check_mask(mask);
  const std::uint64_t* all = fathom::emulator::exchange_in_warp(predicate != 0 ? 1 : 0);
  unsigned bits = 0;
  for (int lane = 0; lane < 32; ++lane) {
    bits |= static_cast<unsigned>(all[lane]) << lane;
  }
  return bits;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) == 0xffffffffU;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
  fathom::emulator::check_mask(mask);
  const std::uint64_t own = fathom::emulator::to_bits(value);
  const std::uint64_t* all = fathom::emulator::exchange_in_warp(own);
  unsigned bits = 0;
  for (int lane = 0; lane < 32; ++lane) {
    bits |= static_cast<unsigned>(all[lane] == own) << lane;
  }
  return bits;
}
// Of the values of all lanes.
inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  fathom::emulator::check_mask(mask);
  const std::uint64_t* all = fathom::emulator::exchange_in_warp(value);
  return static_cast<unsigned>(*std::max_element(all, all + 32));
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value) {
  fathom::emulator::check_mask(mask);
  const std::uint64_t* all = fathom::emulator::exchange_in_warp(value);
  return static_cast<unsigned>(*std::min_element(all, all + 32));
}

using std::max;
using std::min;

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }

template <class T>
T __ldg(const T* pointer) {
  return *pointer;
}

// Threads of a block take turns, so a plain update is atomic; blocks run one after another.
template <class T>
T atomicAdd(T* address, T value) {
  const T old = *address;
  *address = old + value;
  return old;
}
template <class T>
T atomicMax(T* address, T value) {
  const T old = *address;
  *address = old < value ? value : old;
  return old;
}
template <class T>
T atomicMin(T* address, T value) {
  const T old = *address;
  *address = value < old ? value : old;
  return old;
}
template <class T>
T atomicExch(T* address, T value) {
  return std::exchange(*address, value);
}

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
inline float __frcp_rn(float x) { return 1.0F / x; }
inline unsigned __float_as_uint(float x) {
  return fathom::emulator::from_bits<unsigned>(fathom::emulator::to_bits(x));
}
inline int __float_as_int(float x) {
  return fathom::emulator::from_bits<int>(fathom::emulator::to_bits(x));
}
inline long long __double_as_longlong(double x) {
  return static_cast<long long>(fathom::emulator::to_bits(x));
}
inline double __longlong_as_double(long long x) {
  return fathom::emulator::from_bits<double>(static_cast<std::uint64_t>(x));
}
inline float __uint_as_float(unsigned x) { return fathom::emulator::from_bits<float>(x); }
inline float __int_as_float(int x) {
  return fathom::emulator::from_bits<float>(static_cast<unsigned>(x));
}
inline long long __float2ll_rn(float x) { return std::llrint(x); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(a) * b) >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
