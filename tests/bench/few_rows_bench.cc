// Products of few rows, K 256 and N 128, with packed weights against BLIS with its small-matrix
// path on: microseconds, best of several turns, in alternation, on one thread. A call is shorter
// than reading the clock: a hundred are timed together.
//   few_rows_bench
#include <blis.h>

#include <algorithm>
#include <cstdio>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/packed_matmul.h"
#include "tests/bench/timing.h"

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
  std::printf("rows   packed us     BLIS us   BLIS / packed\n");
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
    std::printf("%4d  %10.2f  %10.2f  %14.2f\n", static_cast<int>(rows), ours / kCalls * 1e6,
                blis / kCalls * 1e6, blis / ours);
  }
}
