#include <numeric>

#include "kernels/permute.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

struct Arranged {
  std::vector<std::int64_t> offsets, part_offsets;
  std::vector<std::int32_t> arrival_of_row, row_of_arrival;

  bool operator==(const Arranged&) const = default;
};

Arranged arrange(const Tensor& counts, std::int64_t num_rows, bool has_parts, Stream& stream) {
  Tensor offsets = Tensor::empty(Shape{counts.size(1) + 1}, DType::kInt64, stream);
  Tensor part_offsets;
  if (has_parts) {
    part_offsets = Tensor::empty(Shape{counts.numel() + 1}, DType::kInt64, stream);
  }
  Tensor arrival_of_row = Tensor::empty(Shape{num_rows}, DType::kInt32, stream);
  Tensor row_of_arrival = Tensor::empty(Shape{num_rows}, DType::kInt32, stream);
  arrange_rows(counts, offsets, part_offsets, arrival_of_row, row_of_arrival, stream);
  Arranged arranged{to_host<std::int64_t>(offsets, stream), {}, {}, {}};
  if (has_parts) {
    arranged.part_offsets = to_host<std::int64_t>(part_offsets, stream);
  }
  if (counts.size(0) > 1) {
    arranged.arrival_of_row = to_host<std::int32_t>(arrival_of_row, stream);
    arranged.row_of_arrival = to_host<std::int32_t>(row_of_arrival, stream);
  }
  return arranged;
}

}  // namespace

TEST_CASE("arrange_rows on CUDA arranges as on the CPU") {
  Devices devices;
  const auto [num_ranks, num_experts, num_units] =
      GENERATE(std::array<std::int64_t, 3>{1, 1, 1}, std::array<std::int64_t, 3>{1, 700, 3},
               std::array<std::int64_t, 3>{2, 3, 1}, std::array<std::int64_t, 3>{16, 5, 1},
               std::array<std::int64_t, 3>{4, 64, 5});
  const bool has_parts = GENERATE(false, true);
  const Shape shape{num_ranks, num_experts, num_units};
  std::vector<std::int64_t> counts;
  for (std::int64_t i = 0; i < shape.numel(); ++i) {
    counts.push_back(i % 7 == 3 ? 300 : i * i % 5);  // one that takes more than a block at a time
  }
  const std::int64_t num_rows = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  const Tensor here = tensor_of(counts, shape, devices.cpu);
  CHECK(arrange(devices.to_cuda(here), num_rows, has_parts, devices.cuda) ==
        arrange(here, num_rows, has_parts, devices.cpu));
}

TEST_CASE("arrange_rows on CUDA sums beyond 32 bits") {
  Devices devices;
  const std::vector<std::int64_t> counts{0, 5, std::int64_t{1} << 40, 1};
  Tensor offsets = devices.empty(Shape{5}, DType::kInt64);
  Tensor undefined;
  arrange_rows(devices.to_cuda(tensor_of(counts, Shape{1, 4, 1}, devices.cpu)), offsets, undefined,
               undefined, undefined, devices.cuda);
  CHECK(
      to_host<std::int64_t>(offsets, devices.cuda) ==
      std::vector<std::int64_t>{0, 0, 5, (std::int64_t{1} << 40) + 5, (std::int64_t{1} << 40) + 6});
}

}  // namespace fathom::kernels
