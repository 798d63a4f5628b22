#include "kernels/adamw.h"

#include <bit>
#include <cmath>
#include <limits>

#include "core/rng.h"
#include "kernels/elementwise.h"
#include "tests/kernels/cuda/devices.h"
#include "tests/kernels/exact_sums.h"

namespace fathom::kernels {
namespace {

AdamWOptions some_options(Stream& stream) {
  AdamWOptions options;
  options.grad_scale = Tensor::empty(Shape{1}, DType::kFloat32, stream);
  fill(options.grad_scale, 0.7F, stream);
  options.learning_rate = 3e-3;
  options.beta2 = 0.99;
  options.epsilon = 1e-6;
  options.weight_decay = 0.1;
  options.step = 3;
  return options;
}

Tensor as(DType dtype, const Tensor& x, Stream& stream) {
  Tensor result = Tensor::empty(x.shape(), dtype, stream);
  convert(x, result, stream);
  return result;
}

// Elements [first, first + n) of a tensor on the GPU.
struct Range {
  std::int64_t first;
  std::int64_t n;
};

struct Dtypes {
  DType value, grad, exp_avg, exp_avg_sq;
};

// A state on the CPU, and the same in the middle of longer tensors on the GPU.
struct State {
  State(const Dtypes& dtypes, const Range& range, Devices& devices)
      : whole(Shape{range.first + range.n}),
        grad(as(dtypes.grad, random_tensor(whole, "grad", devices.cpu), devices.cpu)),
        master(random_tensor(whole, "master", devices.cpu)),
        value(as(dtypes.value, filled(whole, 7.0F, devices.cpu), devices.cpu)),
        m(as(dtypes.exp_avg, random_tensor(whole, "m", devices.cpu), devices.cpu)),
        v(as(dtypes.exp_avg_sq, filled(whole, 0.3F, devices.cpu), devices.cpu)) {}

  Shape whole;
  Tensor grad, master, value, m, v;
};

// The bytes of a tensor that may lie on the GPU.
std::vector<std::byte> bytes(const Tensor& tensor, Stream& stream) {
  std::vector<std::byte> result(static_cast<std::size_t>(tensor.size_bytes()));
  copy_to_host(tensor, result, stream);
  return result;
}

Tensor there(const Tensor& tensor, Devices& devices) {
  Tensor result = Tensor::empty(tensor.shape(), tensor.dtype(), devices.cuda);
  copy_from_host({tensor.raw(), static_cast<std::size_t>(tensor.size_bytes())}, result,
                 devices.cuda);
  return result;
}

void step(State& state, const Range& range, bool has_own_value, Stream& stream) {
  const auto part = [&](const Tensor& tensor) {
    return tensor.narrow(range.first, range.first + range.n);
  };
  Tensor master = part(state.master);
  Tensor value = has_own_value ? part(state.value) : master;
  Tensor m = part(state.m);
  Tensor v = part(state.v);
  adamw_step(some_options(stream), part(state.grad), master, value, m, v, stream);
}

}  // namespace

TEST_CASE("An AdamW step on CUDA has the bits of the CPU's") {
  Devices devices;
  constexpr DType kFloat = DType::kFloat32;
  constexpr DType kHalf = DType::kBFloat16;
  const Dtypes dtypes =
      GENERATE(Dtypes{kFloat, kFloat, kFloat, kFloat}, Dtypes{kHalf, kFloat, kHalf, kHalf},
               Dtypes{kHalf, kHalf, kFloat, kFloat}, Dtypes{kHalf, kFloat, kHalf, kFloat},
               Dtypes{kFloat, kHalf, kFloat, kHalf});
  // 8 elements are 16 bytes of every dtype, 3 are not.
  const Range range =
      GENERATE(Range{0, 0}, Range{0, 1}, Range{0, 16}, Range{8, 5003}, Range{3, 1029});
  const bool has_own_value = GENERATE(true, false);
  if (!has_own_value && dtypes.value == kHalf) {
    return;
  }
  State want(dtypes, range, devices);
  State found = want;
  for (Tensor* tensor : {&found.grad, &found.master, &found.value, &found.m, &found.v}) {
    *tensor = there(*tensor, devices);
  }
  step(want, range, has_own_value, devices.cpu);
  step(found, range, has_own_value, devices.cuda);
  CHECK(bytes(found.master, devices.cuda) == bytes_of(want.master));
  CHECK(bytes(found.value, devices.cuda) == bytes_of(want.value));
  CHECK(bytes(found.m, devices.cuda) == bytes_of(want.m));
  CHECK(bytes(found.v, devices.cuda) == bytes_of(want.v));
}

TEST_CASE("sum_of_squares on CUDA is that of the CPU") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const Range range = GENERATE(Range{0, 0}, Range{0, 1}, Range{0, 4097}, Range{1, 70003});
  std::vector<float> numbers = vector_of(
      devices.rounded(random_tensor(Shape{range.first + range.n}, "x", devices.cpu), dtype));
  std::int64_t num_bad = 0;
  for (std::size_t i = 5; i < numbers.size(); i += 1001) {
    numbers[i] =
        std::array{std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                   std::numeric_limits<float>::quiet_NaN()}[i % 3];
    ++num_bad;
  }
  const Tensor x = tensor_of(numbers, Shape{range.first + range.n}, devices.cpu);
  const auto part = [&](const Tensor& tensor) {
    return tensor.narrow(range.first, range.first + range.n);
  };
  ExactSum want;
  ExactSum found;
  want.add(2.5);
  found.add(2.5);
  std::int64_t want_bad = -1;
  std::int64_t found_bad = -1;
  sum_of_squares(part(x), want, want_bad, devices.cpu);
  sum_of_squares(part(devices.to_cuda(x, dtype)), found, found_bad, devices.cuda);
  CHECK(found.value() == Approx(want.value()).epsilon(1e-13));
  CHECK(found_bad == want_bad);
  CHECK(found_bad == num_bad);
}

TEST_CASE("sum_of_squares on CUDA is exact where doubles are") {
  Devices devices;
  std::vector<float> numbers(40000);
  double want = 0.0;
  const RandomSource random(2, "integers");
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = static_cast<float>(random.below(i, 4096));
    want += static_cast<double>(numbers[i]) * static_cast<double>(numbers[i]);
  }
  numbers.push_back(std::bit_cast<float>(0x7fffffffU));
  ExactSum sum;
  std::int64_t num_non_finite = 0;
  const Tensor x = tensor_of(numbers, Shape{40001}, devices.cpu);
  sum_of_squares(devices.to_cuda(x), sum, num_non_finite, devices.cuda);
  CHECK(sum.value() == want);
  CHECK(num_non_finite == 1);
}

TEST_CASE("A finite element of 2^64 makes the sum NaN on CUDA as well") {
  Devices devices;
  ExactSum sum;
  std::int64_t num_non_finite = -1;
  const Tensor x = tensor_of<float>({1.0F, 0x1p64F}, Shape{2}, devices.cpu);
  sum_of_squares(devices.to_cuda(x), sum, num_non_finite, devices.cuda);
  CHECK(std::isnan(sum.value()));
  CHECK(num_non_finite == 0);
}

}  // namespace fathom::kernels
