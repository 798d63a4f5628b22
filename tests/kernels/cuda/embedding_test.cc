#include "kernels/embedding.h"

#include <limits>
#include <numeric>

#include "kernels/cuda/stable_order.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

// Tokens of which some occur often, some never, and some lie outside a table of [10, 10 +
// num_rows).
Tensor some_tokens(std::int64_t num_tokens, std::int64_t num_rows, Devices& devices) {
  const RandomSource random(3, "tokens");
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < num_tokens; ++i) {
    const auto index = static_cast<std::uint64_t>(i);
    const bool is_frequent = random.below(2 * index, 2) == 0;
    const auto row = random.below(2 * index + 1, static_cast<std::uint64_t>(num_rows) + 8);
    tokens.push_back(static_cast<std::int32_t>(is_frequent ? 11 : 6 + row));
  }
  return tensor_of(tokens, Shape{num_tokens}, devices.cpu);
}

}  // namespace

TEST_CASE("stable_order on CUDA is that of std::stable_sort") {
  Devices devices;
  const std::int64_t count = GENERATE(0, 1, 31, 257, 5000);
  const std::int64_t num_keys = GENERATE(1, 2, 256, 257, 129'281, 20'000'000);
  const RandomSource random(4, "keys");
  std::vector<std::int32_t> keys;
  for (std::int64_t i = 0; i < count; ++i) {
    // The lower half of the places repeats few keys.
    const auto bound =
        static_cast<std::uint64_t>(i < count / 2 ? std::min<std::int64_t>(num_keys, 5) : num_keys);
    keys.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(i), bound)));
  }
  std::vector<std::int32_t> want(keys.size());
  std::iota(want.begin(), want.end(), 0);
  std::ranges::sort(
      want, {}, [&](std::int32_t i) { return std::pair(keys[static_cast<std::size_t>(i)], i); });
  const Tensor order = cuda::stable_order(
      devices.to_cuda(tensor_of(keys, Shape{count}, devices.cpu)), num_keys, devices.cuda);
  CHECK(to_host<std::int32_t>(order, devices.cuda) == want);
}

TEST_CASE("embedding on CUDA is that of the CPU") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t num_tokens = GENERATE(0, 1, 33, 300);
  const std::int64_t hidden = GENERATE(1, 21, 64, 1288);
  const std::int64_t num_rows = 300;
  const Tensor tokens = some_tokens(num_tokens, num_rows, devices);
  const Tensor table =
      devices.rounded(random_tensor(Shape{num_rows, hidden}, "table", devices.cpu), dtype);
  Tensor want = Tensor::empty(Shape{num_tokens, hidden}, DType::kFloat32, devices.cpu);
  embedding_forward(tokens, table, 10, want, devices.cpu);
  const Tensor dout = devices.rounded(random_tensor(want.shape(), "dout", devices.cpu), dtype);
  Tensor want_grad = random_tensor(table.shape(), "gradient", devices.cpu);
  Tensor found_grad = devices.to_cuda(want_grad);
  GradientSum want_sum = float_sum(want_grad);
  embedding_backward(tokens, dout, 10, want_sum, devices.cpu);

  const Tensor tokens_there = devices.to_cuda(tokens);
  Tensor found = devices.empty(want.shape(), dtype);
  embedding_forward(tokens_there, devices.to_cuda(table, dtype), 10, found, devices.cuda);
  CHECK(vector_of(devices.to_cpu(found)) == vector_of(want));
  GradientSum found_sum = float_sum(found_grad);
  embedding_backward(tokens_there, devices.to_cuda(dout, dtype), 10, found_sum, devices.cuda);
  // Of float32 sums of up to 170 terms.
  CHECK(largest_error(found_grad, want_grad, devices) < 3e-5);
}

TEST_CASE("embedding on CUDA: a token that fills shares, and a -0") {
  Devices devices;
  const std::int64_t num_tokens = GENERATE(32, 64, 65, 200);
  const Tensor tokens =
      tensor_of(std::vector<std::int32_t>(static_cast<std::size_t>(num_tokens), 1),
                Shape{num_tokens}, devices.cpu);
  Tensor grad = devices.to_cuda(filled(Shape{3, 8}, 0.5F, devices.cpu));
  GradientSum sum = float_sum(grad);
  embedding_backward(devices.to_cuda(tokens),
                     devices.to_cuda(filled(Shape{num_tokens, 8}, 1.0F, devices.cpu)), 0, sum,
                     devices.cuda);
  std::vector<float> want(24, 0.5F);
  std::fill_n(want.begin() + 8, 8, 0.5F + static_cast<float>(num_tokens));
  CHECK(to_host<float>(grad, devices.cuda) == want);

  Tensor out = devices.empty(Shape{num_tokens, 8}, DType::kFloat32);
  embedding_forward(devices.to_cuda(tokens),
                    devices.to_cuda(filled(Shape{3, 8}, -0.0F, devices.cpu)), 0, out, devices.cuda);
  for (const float value : to_host<float>(out, devices.cuda)) {
    CHECK_FALSE(std::signbit(value));
  }
}

TEST_CASE("embedding on CUDA adds and refuses the contributions that the CPU does") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t num_tokens = GENERATE(0, 1, 300);
  const std::int64_t hidden = GENERATE(1, 21, 600);
  const bool is_empty = GENERATE(false, true);
  constexpr std::int64_t kRows = 50;
  const Tensor tokens = some_tokens(num_tokens, kRows, devices);
  Tensor dout = random_tensor(Shape{num_tokens, hidden}, "dout", devices.cpu);
  if (num_tokens > 1) {
    dout.mutable_values<float>()[0] = std::numeric_limits<float>::quiet_NaN();
  }
  dout = devices.rounded(dout, dtype);
  const auto sum_on = [&](Stream& stream, const auto& place, const Tensor& gradients) {
    GradientSum sum = integer_sum({kRows, hidden}, 48, 2.0F, stream);  // some are beyond it
    fill(sum.sum, 9.0F, stream);
    sum.is_empty = is_empty;
    embedding_backward(place(tokens), gradients, 10, sum, stream);
    std::vector<std::int64_t> numbers = to_host<std::int64_t>(sum.sum, stream);
    numbers.push_back(to_host<std::int64_t>(sum.num_refused, stream)[0]);
    return numbers;
  };
  const auto there = [&](const Tensor& tensor) { return devices.to_cuda(tensor); };
  const auto want = sum_on(devices.cpu, [](const Tensor& tensor) { return tensor; }, dout);
  CHECK(sum_on(devices.cuda, there, devices.to_cuda(dout, dtype)) == want);
  CHECK(sum_on(devices.cuda, there, devices.to_cuda_misaligned(dout, dtype)) == want);
  CHECK((want.back() > 10 || num_tokens < 300 || hidden < 21));
}

}  // namespace fathom::kernels
