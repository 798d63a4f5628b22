// Every kernel of a training step on a GPU at the shapes of DeepSeek-V2-Lite (4096 tokens), and
// what a step of decoding (256 sequences) has of its own: median time by CUDA events with a cold
// second-level cache, as a line of JSON each: microseconds, TFLOP/s, TB/s of operands, and the
// share of the floor that the card's ceilings set, which are measured first.
//   kernel_bench_cuda [--only PART_OF_A_NAME] [--repeats N] [--exact] [--small]
// --exact: the kernels of numerics.mode EXACT, on gradients of integers and sums in chunks.
// --small: tiny shapes, once, for sanitizers. Exits 77 without a GPU, 1 if an operation failed.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/device_backend.h"
#include "tests/bench/cuda/bench.h"

int main(int argc, char** argv) {
  using namespace fathom::bench;
  Sizes sizes;
  int num_repeats = 30;
  std::string only;
  fathom::SumOrder order = fathom::SumOrder::kFastest;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--small") {
      sizes = small_sizes();
      num_repeats = 1;
    } else if (argument == "--exact") {
      order = fathom::SumOrder::kFixed;
    } else if (argument == "--only" && i + 1 < argc) {
      only = argv[++i];
    } else if (argument == "--repeats" && i + 1 < argc) {
      num_repeats = std::atoi(argv[++i]);
    } else {
      std::fprintf(stderr, "usage: %s [--only PART_OF_A_NAME] [--repeats N] [--exact] [--small]\n",
                   argv[0]);
      return 2;
    }
  }
  if (fathom::device_backend(fathom::DeviceType::kCuda).num_devices() == 0) {
    std::fprintf(stderr, "no GPU, or no driver for it\n");
    return 77;
  }
  Bench bench(num_repeats, only, order);
  bench.measure_ceilings(sizes);
  time_products(bench, sizes);
  time_experts(bench, sizes);
  time_attention(bench, sizes);
  time_decoding(bench, sizes);
  time_rows(bench, sizes);
  time_routing(bench, sizes);
  time_head(bench, sizes);
  time_optimizer(bench, sizes);
  return bench.failed() ? 1 : 0;
}
