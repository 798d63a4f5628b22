// The rate that BLIS alone reaches on the matrix products of one training step of
// configs/models/small.textproto (8 sequences of 256 tokens), weighted by operations: the ceiling
// that docs/results.md holds the step against. Run it on an idle machine:
//   build/cpu/tests/bench/step_products_bench [threads]
#include <blis.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Linear {  // y [rows, out] = x [rows, in] W^T, `count` times a step, three products each
  const char* name;
  dim_t rows, in, out, count;
};

// 4 layers, 1 of them dense; 16 experts, 4 a token, so 512 rows an expert.
const std::vector<Linear> kLinears = {
    {"q_a", 2048, 256, 96, 4},
    {"q_b", 2048, 96, 192, 4},
    {"kv_a", 2048, 256, 80, 4},
    {"kv_b", 2048, 64, 256, 4},
    {"o", 2048, 128, 256, 4},
    {"dense gate_up", 2048, 256, 1024, 1},
    {"dense down", 2048, 512, 256, 1},
    {"router", 2048, 256, 16, 3},
    {"shared gate_up", 2048, 256, 256, 3},
    {"shared down", 2048, 128, 256, 3},
    {"expert gate_up", 512, 256, 256, 48},
    {"expert down", 512, 128, 256, 48},
    {"head", 2048, 256, 4096, 1},
};

struct Product {
  trans_t trans_a, trans_b;
  dim_t m, n, k;  // c [m, n] = op(a) [m, k] op(b) [k, n], all row-major
};

std::vector<Product> products_of(const Linear& linear) {
  return {{BLIS_NO_TRANSPOSE, BLIS_TRANSPOSE, linear.rows, linear.out, linear.in},
          {BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, linear.rows, linear.in, linear.out},
          {BLIS_TRANSPOSE, BLIS_NO_TRANSPOSE, linear.out, linear.in, linear.rows}};
}

void multiply(const Product& p, const float* a, const float* b, float* c, dim_t first, dim_t last) {
  // Each thread makes some rows of the output with a call of its own.
  const dim_t a_step = p.trans_a == BLIS_TRANSPOSE ? 1 : p.k;
  float one = 1.0F;
  float zero = 0.0F;
  const inc_t a_row = p.trans_a == BLIS_TRANSPOSE ? p.m : p.k;
  const inc_t b_row = p.trans_b == BLIS_TRANSPOSE ? p.k : p.n;
  bli_sgemm(p.trans_a, p.trans_b, last - first, p.n, p.k, &one,
            const_cast<float*>(a) + first * a_step, a_row, 1, const_cast<float*>(b), b_row, 1,
            &zero, c + first * p.n, p.n, 1);
}

double seconds(const Product& p, int threads, dim_t copies) {
  // Several copies of the operands, as a step walks through other weights each time.
  std::vector<float> a(static_cast<std::size_t>(p.m * p.k), 0.5F);
  std::vector<float> b(static_cast<std::size_t>(p.n * p.k * copies), 0.25F);
  std::vector<float> c(static_cast<std::size_t>(p.m * p.n * copies));
  double best = 1e9;
  for (int run = 0; run < 5; ++run) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> workers;
    for (int t = 0; t < threads; ++t) {
      workers.emplace_back([&, t] {
        const dim_t first = p.m * t / threads;
        const dim_t last = p.m * (t + 1) / threads;
        for (dim_t copy = 0; copy < copies; ++copy) {
          multiply(p, a.data(), b.data() + copy * p.n * p.k, c.data() + copy * p.m * p.n, first,
                   last);
        }
      });
    }
    for (std::thread& worker : workers) {
      worker.join();
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count() / static_cast<double>(copies));
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  double total_operations = 0.0;
  double total_seconds = 0.0;
  for (const Linear& linear : kLinears) {
    double operations = 0.0;
    double took = 0.0;
    for (const Product& product : products_of(linear)) {
      operations += 2.0 * static_cast<double>(product.m * product.n * product.k);
      took += seconds(product, threads, std::max<dim_t>(4, std::min<dim_t>(linear.count, 16)));
    }
    std::printf("%-16s %5ld x %4ld -> %4ld  x %2ld   %7.1f GFLOP/s\n", linear.name, linear.rows,
                linear.in, linear.out, linear.count, operations / took * 1e-9);
    total_operations += operations * static_cast<double>(linear.count);
    total_seconds += took * static_cast<double>(linear.count);
  }
  std::printf("step: %.2f GFLOP in products, %.1f GFLOP/s on %d threads, at most %.0f tokens/s\n",
              total_operations * 1e-9, total_operations / total_seconds * 1e-9, threads,
              2048.0 / total_seconds);
}
