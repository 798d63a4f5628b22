#include "kernels/adamw.h"

#include "kernels/elementwise.h"
#include "tests/kernels/cuda/devices.h"

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

TEST_CASE("An AdamW step on CUDA with a scale of NaN leaves everything as it is") {
  Devices devices;
  const auto of = [&](float value) {
    return devices.to_cuda(filled(Shape{3001}, value, devices.cpu));
  };
  AdamWOptions options;
  options.learning_rate = 1.0;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  options.grad_scale = devices.to_cuda(filled(Shape{1}, nan, devices.cpu));
  Tensor weight = of(3.0F);
  Tensor m = of(2.0F);
  Tensor v = of(1.0F);
  adamw_step(options, of(nan), weight, weight, m, v, devices.cuda);
  CHECK(to_host<float>(weight, devices.cuda) == std::vector<float>(3001, 3.0F));
  CHECK(to_host<float>(m, devices.cuda) == std::vector<float>(3001, 2.0F));
  CHECK(to_host<float>(v, devices.cuda) == std::vector<float>(3001, 1.0F));
}

}  // namespace fathom::kernels
