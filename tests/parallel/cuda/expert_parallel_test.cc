// Routes of tokens to the experts of other ranks and back, with tensors of either device, against
// plain loops over everybody's choices.
#include "parallel/expert_parallel.h"

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "core/host_copy.h"
#include "kernels/elementwise.h"
#include "kernels/permute.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

namespace fathom::parallel {
namespace {

constexpr std::int64_t kTokens = 12;  // of a rank
constexpr std::int64_t kUnit = 4;
constexpr std::int64_t kHiddenSize = 5;
constexpr int kNumExperts = 8;
constexpr int kTopK = 3;

struct Case {
  Device device;
  DType dtype = DType::kFloat32;
  std::int64_t unit_tokens = 0;
  int num_used_experts = kNumExperts;  // nobody chooses the others
};

// [kTokens, kTopK] of a rank, ascending in each row.
std::vector<std::int32_t> chosen_by(int rank, int num_used_experts) {
  std::vector<std::int32_t> ids;
  for (std::int32_t token = 0; token < kTokens; ++token) {
    std::vector<std::int32_t> row;
    for (const std::int32_t step : {0, 1, 3}) {
      row.push_back((token * token / 3 + 2 * rank + step) % num_used_experts);
    }
    std::sort(row.begin(), row.end());
    ids.insert(ids.end(), row.begin(), row.end());
  }
  return ids;
}

// Element `column` of a token: an integer that bfloat16 has.
float element(std::int64_t rank, std::int64_t token, std::int64_t column) {
  return static_cast<float>((rank * kTokens + token) * kHiddenSize + column);
}

// What the experts of a rank work on.
struct Arranged {
  std::vector<float> rows;
  std::vector<std::int64_t> offsets;       // of experts
  std::vector<std::int64_t> part_offsets;  // of (expert, source rank, unit)
};

Arranged arranged_for(int rank, int num_ranks, const Case& test) {
  Arranged result;
  const std::int64_t unit = test.unit_tokens == 0 ? kTokens : test.unit_tokens;
  std::int64_t num_rows = 0;
  const int local_experts = kNumExperts / num_ranks;
  for (int expert = rank * local_experts; expert < (rank + 1) * local_experts; ++expert) {
    result.offsets.push_back(num_rows);
    for (int source = 0; source < num_ranks; ++source) {
      const std::vector<std::int32_t> ids = chosen_by(source, test.num_used_experts);
      for (std::int64_t token = 0; token < kTokens; ++token) {
        if (token % unit == 0) {
          result.part_offsets.push_back(num_rows);
        }
        const auto first = ids.begin() + token * kTopK;
        if (std::find(first, first + kTopK, expert) != first + kTopK) {
          ++num_rows;
          for (std::int64_t column = 0; column < kHiddenSize; ++column) {
            result.rows.push_back(element(source, token, column));
          }
        }
      }
    }
  }
  result.offsets.push_back(num_rows);
  result.part_offsets.push_back(num_rows);
  if (test.unit_tokens == 0) {
    result.part_offsets = result.offsets;
  }
  return result;
}

std::vector<float> floats_of(const Tensor& x, Stream& stream) {
  Tensor wide = Tensor::empty(x.shape(), DType::kFloat32, stream);
  kernels::convert(x, wide, stream);
  return to_host<float>(wide, stream);
}

// This rank's tokens.
Tensor make_tokens(int rank, DType dtype, Stream& stream) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < kTokens * kHiddenSize; ++i) {
    values.push_back(element(rank, i / kHiddenSize, i % kHiddenSize));
  }
  Tensor wide = Tensor::empty(Shape{kTokens, kHiddenSize}, DType::kFloat32, stream);
  from_host<float>(values, wide, stream);
  Tensor x = Tensor::empty(wide.shape(), dtype, stream);
  kernels::convert(wide, x, stream);
  return x;
}

void check_route(const Case& test, Communicator& expert, Stream& stream) {
  const std::vector<std::int32_t> ids = chosen_by(expert.rank(), test.num_used_experts);
  Tensor expert_ids = Tensor::empty(Shape{kTokens, kTopK}, DType::kInt32, stream);
  from_host<std::int32_t>(ids, expert_ids, stream);
  const ExpertRoute route = plan_expert_route(
      expert_ids, {.num_experts = kNumExperts, .unit_tokens = test.unit_tokens}, expert, stream);
  const Tensor x = make_tokens(expert.rank(), test.dtype, stream);
  Tensor home = Tensor::empty(Shape{kTokens * kTopK, kHiddenSize}, test.dtype, stream);
  kernels::permute_forward(x, route.slot_of_row, kTopK, home, stream);
  // Two exchanges under way at a time, waited for in the other order.
  Tensor slots = Tensor::empty(Shape{kTokens * kTopK, 1}, DType::kFloat32, stream);
  std::vector<float> of_slots;
  for (std::int64_t slot = 0; slot < kTokens * kTopK; ++slot) {
    of_slots.push_back(element(expert.rank(), slot / kTopK, slot % kTopK));
  }
  from_host<float>(of_slots, slots, stream);
  Tensor home_slots = Tensor::empty(slots.shape(), slots.dtype(), stream);
  kernels::permute_forward(slots, route.slot_of_row, 1, home_slots, stream);
  MovingRows moving = send_to_experts(route, home, expert, stream);
  MovingRows moving_slots = send_to_experts(route, home_slots, expert, stream);
  const Tensor arrived_slots = moving_slots.wait();
  const Tensor rows = rows_by_expert(route, moving.wait(), stream);
  const Tensor back =
      return_from_experts(route, rows_by_arrival(route, rows, stream), expert, stream).wait();
  const Tensor slots_back = return_from_experts(route, arrived_slots, expert, stream).wait();

  const Arranged want = arranged_for(expert.rank(), expert.world_size(), test);
  FATHOM_CHECK(floats_of(rows, stream) == want.rows, "rows on rank ", expert.rank());
  FATHOM_CHECK(to_host<std::int64_t>(route.offsets, stream) == want.offsets, "offsets on rank ",
               expert.rank());
  FATHOM_CHECK(to_host<std::int64_t>(route.part_offsets, stream) == want.part_offsets,
               "part_offsets on rank ", expert.rank());
  FATHOM_CHECK(floats_of(back, stream) == floats_of(home, stream), "rows back on rank ",
               expert.rank());
  FATHOM_CHECK(floats_of(slots_back, stream) == floats_of(home_slots, stream),
               "slots back on rank ", expert.rank());
}

}  // namespace

TEST_CASE("Rows reach the experts of 1, 2 and 4 ranks in the order of one, cut into units") {
  const int num_ranks = GENERATE(1, 2, 4);
  Case test;
  std::tie(test.device, test.dtype) =
      GENERATE(std::pair(Device{}, DType::kFloat32),
               std::pair(Device{DeviceType::kCuda, 0}, DType::kFloat32),
               std::pair(Device{DeviceType::kCuda, 0}, DType::kBFloat16));
  test.unit_tokens = GENERATE(std::int64_t{0}, kUnit, std::int64_t{1});
  test.num_used_experts = GENERATE(8, 4);  // half of four ranks get nothing
  INFO(num_ranks << " ranks, " << test.dtype << " on " << to_string(test.device.type)
                 << ", units of " << test.unit_tokens << ", " << test.num_used_experts
                 << " experts");
  test::run_ranks(
      num_ranks, [&](Communicator& expert, Stream& stream) { check_route(test, expert, stream); },
      {}, test.device);
}

}  // namespace fathom::parallel
