#include "kernels/balance_coefficients.h"

#include <bit>

#include "kernels/router.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

Tensor random_counts(const Shape& shape, std::uint64_t bound, const char* name, Stream& stream) {
  Tensor counts = Tensor::empty(shape, DType::kInt64, stream);
  const RandomSource random(5, name);
  std::uint64_t index = 0;
  for (std::int64_t& count : counts.mutable_values<std::int64_t>()) {
    count = static_cast<std::int64_t>(random.below(index++, bound));
  }
  return counts;
}

}  // namespace

TEST_CASE("Balance coefficients and losses on CUDA are those of the CPU") {
  Devices devices;
  const std::int64_t num_sequences = GENERATE(0, 1, 3);
  const std::int64_t num_experts = GENERATE(2, 64, 320);
  const std::int64_t num_groups = GENERATE(1, 2);
  const BalanceOptions options{100, 6, 3, 0.25F, 0.5F, 0.75F, 1.25F, 0.125};
  const Shape per_expert{num_sequences, num_experts};
  const auto counts = [&](const Shape& shape, const char* name) {
    return random_counts(shape, 100, name, devices.cpu);
  };
  const BalanceStatistics here{
      counts(per_expert, "unbiased"),
      random_counts(per_expert, std::uint64_t{1} << (kScoreFractionBits + 6), "sums", devices.cpu),
      counts(per_expert, "selected"), counts(Shape{num_sequences, num_groups}, "groups")};
  Tensor want = Tensor::empty(per_expert, DType::kFloat32, devices.cpu);
  Tensor want_losses = Tensor::empty(Shape{num_sequences}, DType::kInt64, devices.cpu);
  balance_coefficients(options, here, want, want_losses, devices.cpu);

  const BalanceStatistics there{
      devices.to_cuda(here.unbiased_counts), devices.to_cuda(here.score_sums),
      devices.to_cuda(here.selected_counts), devices.to_cuda(here.group_token_counts)};
  Tensor found = devices.empty(per_expert, DType::kFloat32);
  Tensor losses = devices.empty(Shape{num_sequences}, DType::kInt64);
  balance_coefficients(options, there, found, losses, devices.cuda);
  const std::vector<float> coefficients = to_host<float>(found, devices.cuda);
  for (std::size_t i = 0; i < coefficients.size(); ++i) {
    CHECK(coefficients[i] == Approx(want.values<float>()[i]).epsilon(1e-6));
  }
  const std::vector<std::int64_t> bits = to_host<std::int64_t>(losses, devices.cuda);
  for (std::size_t i = 0; i < bits.size(); ++i) {
    CHECK(std::bit_cast<double>(bits[i]) ==
          Approx(std::bit_cast<double>(want_losses.values<std::int64_t>()[i])).epsilon(1e-12));
  }
}

}  // namespace fathom::kernels
