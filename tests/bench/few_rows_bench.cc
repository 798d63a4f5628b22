// Products of few rows, K 256 and N 128, with packed weights against BLIS with its small-matrix
// path on: microseconds, best of several turns, in alternation, on one thread. A call is shorter
// than reading the clock: a hundred are timed together. The floor is what the fused multiply-adds
// alone would take at the rate that this machine reaches on registers.
//   few_rows_bench
#include <blis.h>

#include <algorithm>
#include <cstdio>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/cpu/simd.h"
#include "kernels/packed_matmul.h"
#include "tests/bench/timing.h"

namespace {

namespace simd = fathom::kernels::simd;

constexpr int kSteps = 1 << 16;
constexpr int kChains = 6;

// Enough chains in registers to hide the latency; returns their sum so that they are computed.
float run_chains() {
  simd::Floats sums[kChains];
  for (simd::Floats& sum : sums) {
    sum = simd::zero();
  }
  const simd::Floats factor = simd::broadcast(0.5F);
  for (int step = 0; step < kSteps; ++step) {
    for (simd::Floats& sum : sums) {
      sum = simd::fma(factor, sum, factor);
    }
  }
  float total = 0.0F;
  for (const simd::Floats& sum : sums) {
    total += simd::sum(sum);
  }
  return total;
}

// Multiply-adds a second on one thread.
double multiply_add_rate() {
  volatile float total = 0.0F;
  const double seconds =
      fathom::bench::best_seconds(true, 0.2, [&] { total = total + run_chains(); });
  return static_cast<double>(kSteps) * kChains * simd::kLanes / seconds;
}

}  // namespace

int main() {
  using fathom::DType;
  using fathom::Tensor;
  constexpr std::int64_t kInner = 256;
  constexpr std::int64_t kColumns = 128;
  fathom::Stream stream;
  const auto filled = [&](fathom::Shape shape) {
    Tensor t = Tensor::empty(shape, DType::kFloat32, stream);
    for (std::size_t i = 0; i < t.mutable_values<float>().size(); ++i) {
      t.mutable_values<float>()[i] = static_cast<float>(i % 17) / 16 - 0.5F;
    }
    return t;
  };
  Tensor w = filled({kColumns, kInner});
  Tensor packed = filled(fathom::kernels::packed_shape(w.shape()));
  fathom::kernels::pack_weight(w, packed, stream);
  const double rate = multiply_add_rate();
  std::printf("rows   packed us     BLIS us   BLIS / packed    floor us\n");
  for (const std::int64_t rows : {1, 2, 4, 8, 16, 32}) {
    Tensor x = filled({rows, kInner});
    Tensor y = filled({rows, kColumns});
    double ours = 1.0;
    double blis = 1.0;
    float one = 1.0F;
    float zero = 0.0F;
    constexpr int kCalls = 100;
    for (int turn = 0; turn < 15; ++turn) {
      ours = std::min(ours, fathom::bench::best_seconds(true, 0.02, [&] {
                        for (int call = 0; call < kCalls; ++call) {
                          fathom::kernels::packed_matmul_forward(x, packed, y, 1, stream);
                        }
                      }));
      blis = std::min(blis, fathom::bench::best_seconds(true, 0.02, [&] {
                        for (int call = 0; call < kCalls; ++call) {
                          bli_sgemm(BLIS_NO_TRANSPOSE, BLIS_TRANSPOSE, rows, kColumns, kInner, &one,
                                    x.mutable_data<float>(), kInner, 1, w.mutable_data<float>(),
                                    kInner, 1, &zero, y.mutable_data<float>(), kColumns, 1);
                        }
                      }));
    }
    std::printf("%4d  %10.2f  %10.2f  %14.2f  %10.2f\n", static_cast<int>(rows),
                ours / kCalls * 1e6, blis / kCalls * 1e6, blis / ours,
                static_cast<double>(rows * kInner * kColumns) / rate * 1e6);
  }
}
