// Asks cuDNN, without a GPU, whether it has engines for the attention that we give it. Needs a
// libcuda.so.1 to load; the toolkit's stub does (scripts/check_cuda_build.sh).

#include <iostream>
#include <string>

#include "kernels/cuda/cudnn_attention.h"

namespace fathom::kernels::cuda {
namespace {

// An H100 or H200 in cuDNN's words.
constexpr const char* kHopper = R"({
  "cudaDeviceId": 0, "deviceName": "NVIDIA H200", "deviceVer": 900, "driverVer": 13000, "isTccDriver": 0, "l2CacheSize": 52428800,
  "maxBlockSize": [1024, 1024, 64], "maxCtasPerSM": 32, "maxGridSize": [2147483647, 65535, 65535], "maxRegistersPerSM": 65536,
  "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048,
  "memClockRateKHz": 3201000, "multiProcessorCount": 132, "pciDeviceId": 0, "regsPerBlock": 65536,
  "reservedSharedMemoryPerBlock": 1024, "smClockRateKHz": 1980000, "supportCoopLaunch": 1, "totalGlobalMem": 150000000000,
  "warpSize": 32})";

struct Heads {
  const char* name;
  std::int64_t num_heads, nope, rope, value;
};
struct Tokens {
  std::int64_t num_batches, batch_tokens;
  bool is_ragged;
};
constexpr Heads kHeads[] = {{"DeepSeek", 16, 128, 64, 128}, {"of the tests", 2, 32, 16, 32}};
constexpr Tokens kTokens[] = {
    {1, 4096, false}, {4, 4096, false}, {3, 100, false}, {4, 4096, true}, {8, 128, true}};

CudnnAttentionPlan plan_of(const Heads& heads, const Tokens& tokens) {
  CudnnAttentionPlan plan;
  plan.is_ragged = tokens.is_ragged;
  plan.num_batches = tokens.num_batches;
  plan.batch_tokens = tokens.batch_tokens;
  plan.num_tokens = tokens.is_ragged ? tokens.batch_tokens : 0;
  plan.num_heads = heads.num_heads;
  plan.key_size = heads.nope + heads.rope;
  plan.value_size = heads.value;
  plan.value_head_stride = heads.nope + heads.value;
  plan.scale = 0.1F;
  return plan;
}

bool is_supported(const CudnnAttentionPlan& plan, const char* heads) {
  const std::string refusal = why_cudnn_refuses(plan, kHopper);
  std::cout << (refusal.empty() ? "supported: " : "REFUSED:   ") << "heads " << heads << ", "
            << (plan.is_backward ? plan.is_deterministic ? "deterministic backward" : "backward"
                                 : "forward")
            << ", " << plan.num_batches << (plan.is_ragged ? " ragged x " : " x ")
            << plan.batch_tokens << " tokens" << (refusal.empty() ? "" : ": " + refusal) << '\n';
  return refusal.empty();
}

int run() {
  int num_refused = 0;
  for (const Heads& heads : kHeads) {
    for (const Tokens& tokens : kTokens) {
      CudnnAttentionPlan plan = plan_of(heads, tokens);
      plan.is_deterministic = false;
      num_refused += is_supported(plan, heads.name) ? 0 : 1;
      plan.is_backward = true;
      num_refused += is_supported(plan, heads.name) ? 0 : 1;
      plan.is_deterministic = true;
      num_refused += is_supported(plan, heads.name) ? 0 : 1;
    }
  }
  // The answer has weight: heads that no engine takes are refused.
  CudnnAttentionPlan impossible = plan_of(kHeads[0], kTokens[0]);
  impossible.is_backward = true;
  impossible.key_size = 300;
  if (why_cudnn_refuses(impossible, kHopper).empty()) {
    std::cout << "cuDNN claims to support heads of 300 numbers\n";
    ++num_refused;
  }
  return num_refused == 0 ? 0 : 1;
}

}  // namespace
}  // namespace fathom::kernels::cuda

int main() { return fathom::kernels::cuda::run(); }
