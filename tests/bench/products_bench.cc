// Our matrix products against plain calls of BLIS, in GFLOP/s, at the shapes of
// configs/models/small.textproto (8 sequences of 256 tokens); best of several turns, ours and
// BLIS's in alternation.
//   products_bench [threads]
#include <blis.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/grouped_matmul.h"
#include "kernels/matmul.h"
#include "tests/bench/timing.h"

namespace {

using fathom::DType;
using fathom::Stream;
using fathom::Tensor;

struct Linear {
  const char* name;
  std::int64_t num_experts;  // 0: one matrix for all rows
  std::int64_t rows, in, out;
  std::int64_t count;  // a step
};

const std::vector<Linear> kLinears = {
    {"q_a", 0, 2048, 256, 96, 4},
    {"q_b", 0, 2048, 96, 192, 4},
    {"kv_a", 0, 2048, 256, 80, 4},
    {"kv_b", 0, 2048, 64, 256, 4},
    {"o", 0, 2048, 128, 256, 4},
    {"dense gate_up", 0, 2048, 256, 1024, 1},
    {"dense down", 0, 2048, 512, 256, 1},
    {"router", 0, 2048, 256, 16, 3},
    {"shared gate_up", 0, 2048, 256, 256, 3},
    {"shared down", 0, 2048, 128, 256, 3},
    {"expert gate_up", 16, 8192, 256, 256, 3},
    {"expert down", 16, 8192, 128, 256, 3},
    {"head", 0, 2048, 256, 4096, 1},
};

// All three products of the layer's rows, one call for every expert.
enum Kind { kForward, kBackwardInput, kBackwardWeight };

struct Problem {
  const Linear& linear;
  Tensor x, w, y, offsets;
};

void run_blis(const Problem& p, Kind kind, std::int64_t num_matrices) {
  const std::int64_t rows = p.linear.rows / num_matrices;
  const std::int64_t in = p.linear.in;
  const std::int64_t out = p.linear.out;
  for (std::int64_t e = 0; e < num_matrices; ++e) {
    float* x = const_cast<float*>(p.x.data<float>()) + e * rows * in;
    float* w = const_cast<float*>(p.w.data<float>()) + e * in * out;
    float* y = const_cast<float*>(p.y.data<float>()) + e * rows * out;
    float one = 1;
    float zero = 0;
    if (kind == kForward) {
      bli_sgemm(BLIS_NO_TRANSPOSE, BLIS_TRANSPOSE, rows, out, in, &one, x, in, 1, w, in, 1, &zero,
                y, out, 1);
    } else if (kind == kBackwardInput) {
      bli_sgemm(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, rows, in, out, &one, y, out, 1, w, in, 1,
                &zero, x, in, 1);
    } else {
      bli_sgemm(BLIS_TRANSPOSE, BLIS_NO_TRANSPOSE, out, in, rows, &one, y, out, 1, x, in, 1, &zero,
                w, in, 1);
    }
  }
}

void run_ours(Problem& p, Kind kind, Stream& stream) {
  namespace k = fathom::kernels;
  const bool grouped = p.linear.num_experts > 0;
  if (kind == kForward) {
    grouped ? k::grouped_matmul_forward(p.x, p.w, p.offsets, p.y, stream)
            : k::matmul_forward(p.x, p.w, p.y, 1, stream);
  } else if (kind == kBackwardInput) {
    grouped ? k::grouped_matmul_backward_input(p.y, p.w, p.offsets, p.x, stream)
            : k::matmul_backward_input(p.y, p.w, p.x, {}, stream);
  } else {
    k::GradientSum dw;
    dw.sum = p.w;
    grouped ? k::grouped_matmul_backward_weight(p.y, p.x, p.offsets, dw, stream)
            : k::matmul_backward_weight(p.y, p.x, dw, stream);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int num_threads = argc > 1 ? std::atoi(argv[1]) : 1;
  Stream stream({}, num_threads);
  double ours_total = 0;
  double blis_total = 0;
  std::printf("%-16s %30s %30s\n", "", "ours: y, dx, dW (GFLOP/s)", "BLIS, 1 thread: y, dx, dW");
  for (const Linear& linear : kLinears) {
    const std::int64_t num_experts = std::max<std::int64_t>(1, linear.num_experts);
    const auto filled = [&](fathom::Shape shape) {
      Tensor t = Tensor::empty(shape, DType::kFloat32, stream);
      for (std::size_t i = 0; i < t.mutable_values<float>().size(); ++i) {
        t.mutable_values<float>()[i] = static_cast<float>(i % 17) / 16 - 0.5F;
      }
      return t;
    };
    Problem problem{linear, filled({linear.rows, linear.in}),
                    linear.num_experts > 0 ? filled({num_experts, linear.out, linear.in})
                                           : filled({linear.out, linear.in}),
                    filled({linear.rows, linear.out}),
                    Tensor::empty({num_experts + 1}, DType::kInt64, stream)};
    for (std::int64_t e = 0; e <= num_experts; ++e) {
      problem.offsets.mutable_data<std::int64_t>()[e] = e * linear.rows / num_experts;
    }
    double ours[3] = {1e9, 1e9, 1e9};
    double blis[3] = {1e9, 1e9, 1e9};
    for (int turn = 0; turn < 5; ++turn) {
      for (const Kind kind : {kForward, kBackwardInput, kBackwardWeight}) {
        ours[kind] = std::min(ours[kind], fathom::bench::best_seconds(num_threads == 1, 0.02, [&] {
                                run_ours(problem, kind, stream);
                              }));
        blis[kind] = std::min(blis[kind], fathom::bench::best_seconds(true, 0.02, [&] {
                                run_blis(problem, kind, num_experts);
                              }));
      }
    }
    const double flops = 2e-9 * static_cast<double>(linear.rows * linear.in * linear.out);
    std::printf("%-16s", linear.name);
    for (const double seconds : ours) {
      std::printf(" %9.1f", flops / seconds);
      ours_total += seconds * static_cast<double>(linear.count);
    }
    for (const double seconds : blis) {
      std::printf(" %9.1f", flops / seconds);
      blis_total += seconds * static_cast<double>(linear.count);
    }
    std::printf("   (us: %.1f / %.1f)\n", ours[0] * 1e6, blis[0] * 1e6);
  }
  std::printf("products of a step: ours %.1f ms, BLIS %.1f ms\n", ours_total * 1e3,
              blis_total * 1e3);
}
