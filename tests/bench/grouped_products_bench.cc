// The products of experts on the device that the build has, in TFLOP/s: bfloat16 on a GPU, float32
// on the CPU; best of several turns of several calls each.
//   grouped_products_bench [cpu|cuda] [tokens of an expert]
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "core/bfloat16.h"
#include "core/host_copy.h"
#include "core/rng.h"
#include "kernels/grouped_matmul.h"
#include "tests/bench/timing.h"

namespace {

using fathom::DType;
using fathom::Shape;
using fathom::Stream;
using fathom::Tensor;

// Gate and up, and down, of experts of DeepSeek-V2-Lite.
struct Linear {
  const char* name;
  std::int64_t in_size, out_size;
};
constexpr Linear kLinears[] = {{"gate_up", 2048, 2816}, {"down", 1408, 2048}};
constexpr std::int64_t kExperts = 8;

// Random, since a GPU's clock, and so its speed, depends on how many bits change.
Tensor random_tensor(const Shape& shape, DType dtype, Stream& stream) {
  Tensor tensor = Tensor::empty(shape, dtype, stream);
  const fathom::RandomSource random(1, "bench");
  std::vector<float> numbers(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = i < 4096 ? random.normal(i) : numbers[(i * 31 + i / 4096) % 4096];
  }
  if (dtype == DType::kFloat32) {
    fathom::from_host<float>(numbers, tensor, stream);
  } else {
    const std::vector<fathom::BFloat16> halves(numbers.begin(), numbers.end());
    fathom::from_host<fathom::BFloat16>(halves, tensor, stream);
  }
  return tensor;
}

// Expert e's share of all rows: the same for all, or from half of that to one and a half.
Tensor offsets_of(std::int64_t rows, bool is_even, Stream& stream) {
  std::vector<std::int64_t> offsets{0};
  for (std::int64_t e = 1; e <= kExperts; ++e) {
    const double share = static_cast<double>(e) / kExperts;
    const double uneven = share * (1.0 + share) / 2.0;
    offsets.push_back(
        static_cast<std::int64_t>(static_cast<double>(rows) * (is_even ? share : uneven)));
  }
  Tensor tensor = Tensor::empty({kExperts + 1}, DType::kInt64, stream);
  fathom::from_host<std::int64_t>(offsets, tensor, stream);
  return tensor;
}

void measure(const Linear& linear, std::int64_t rows, bool is_even, Stream& stream) {
  const bool is_cpu = stream.device().type == fathom::DeviceType::kCpu;
  const DType dtype = is_cpu ? DType::kFloat32 : DType::kBFloat16;
  const int calls = is_cpu ? 1 : 20;
  const Tensor w = random_tensor({kExperts, linear.out_size, linear.in_size}, dtype, stream);
  Tensor x = random_tensor({rows, linear.in_size}, dtype, stream);
  Tensor y = random_tensor({rows, linear.out_size}, dtype, stream);
  fathom::kernels::GradientSum dw;
  dw.sum = Tensor::zeros(w.shape(), DType::kFloat32, stream);
  const Tensor offsets = offsets_of(rows, is_even, stream);
  const auto tera_flops = [&](const auto& product) {
    product();  // also what a first call alone does
    stream.synchronize();
    const double seconds = fathom::bench::best_seconds(false, 0.2, [&] {
      for (int i = 0; i < calls; ++i) {
        product();
      }
      stream.synchronize();
    });
    return 2e-12 * calls * static_cast<double>(rows * linear.in_size * linear.out_size) / seconds;
  };
  const double weight = tera_flops(
      [&] { fathom::kernels::grouped_matmul_backward_weight(y, x, offsets, dw, stream); });
  const double forward =
      tera_flops([&] { fathom::kernels::grouped_matmul_forward(x, w, offsets, y, stream); });
  const double input =
      tera_flops([&] { fathom::kernels::grouped_matmul_backward_input(y, w, offsets, x, stream); });
  std::printf("%-8s %s  forward %8.3f  backward input %8.3f  weight %8.3f TFLOP/s\n", linear.name,
              is_even ? "even  " : "uneven", forward, input, weight);
}

}  // namespace

int main(int argc, char** argv) {
  const bool is_cuda = argc > 1 && std::string_view(argv[1]) == "cuda";
  const std::int64_t tokens = argc > 2 ? std::atoll(argv[2]) : 1024;
  Stream stream(is_cuda ? fathom::Device{fathom::DeviceType::kCuda, 0} : fathom::Device{}, 2);
  for (const Linear& linear : kLinears) {
    for (const bool is_even : {true, false}) {
      measure(linear, kExperts * tokens, is_even, stream);
    }
  }
}
