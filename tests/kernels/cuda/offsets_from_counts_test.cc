#include <numeric>

#include "kernels/permute.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {

TEST_CASE("offsets_from_counts on CUDA sums the counts before each expert") {
  Devices devices;
  const std::int64_t num_experts = GENERATE(0, 1, 8, 255, 256, 700);
  std::vector<std::int64_t> counts;
  for (std::int64_t i = 0; i < num_experts; ++i) {
    counts.push_back(i * i % 13 + (i == 2 ? std::int64_t{1} << 40 : 0));
  }
  std::vector<std::int64_t> want{0};
  std::partial_sum(counts.begin(), counts.end(), std::back_inserter(want));
  Tensor offsets = devices.empty(Shape{num_experts + 1}, DType::kInt64);
  offsets_from_counts(devices.to_cuda(tensor_of(counts, Shape{num_experts}, devices.cpu)), offsets,
                      devices.cuda);
  CHECK(to_host<std::int64_t>(offsets, devices.cuda) == want);
}

}  // namespace fathom::kernels
