// The kernel that adds up what NCCL has moved, against the host's reduction.
#include "parallel/comm/cuda/rank_tree.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/bfloat16.h"
#include "core/host_copy.h"
#include "core/rng.h"
#include "core/stream.h"
#include "parallel/comm/rank_tree.h"
#include "tests/support/catch.h"

namespace fathom::parallel {
namespace {

constexpr Device kDevice{DeviceType::kCuda, 0};

// [num_ranks, count] numbers of many magnitudes, so that the order of additions shows.
template <class T>
std::vector<T> make_contributions(int num_ranks, std::int64_t count) {
  const RandomSource random(7, "rank tree");
  std::vector<T> values;
  for (std::int64_t i = 0; i < num_ranks * count; ++i) {
    const auto fraction = static_cast<float>(random.below(static_cast<std::uint64_t>(i), 20'001));
    values.push_back(static_cast<T>(std::ldexp(fraction - 10'000.0F, static_cast<int>(i % 12))));
  }
  return values;
}

template <class T>
std::vector<T> reduced_on_host(const std::vector<T>& contributions, int num_ranks,
                               std::int64_t count, ReduceOp op) {
  std::vector<const std::byte*> rows;
  for (std::int64_t rank = 0; rank < num_ranks; ++rank) {
    rows.push_back(reinterpret_cast<const std::byte*>(contributions.data() + rank * count));
  }
  std::vector<T> out(static_cast<std::size_t>(count));
  Stream stream;
  reduce_over_ranks(rows, reinterpret_cast<std::byte*>(out.data()), count, kDTypeOf<T>, op, stream);
  return out;
}

// Into the row of the last rank: in place.
template <class T>
std::vector<T> reduced_on_device(const std::vector<T>& contributions, int num_ranks,
                                 std::int64_t count, ReduceOp op, Stream& stream) {
  Tensor rows = Tensor::empty(Shape{num_ranks, count}, kDTypeOf<T>, stream);
  from_host<T>(contributions, rows, stream);
  const Tensor last = rows.narrow(num_ranks - 1, num_ranks);
  cuda::reduce_over_ranks(rows.raw(), num_ranks, last.raw(), count, kDTypeOf<T>, op,
                          static_cast<cudaStream_t>(stream.queue()->native()));
  return to_host<T>(last, stream);
}

}  // namespace

TEMPLATE_TEST_CASE("Contributions of ranks on a device come to what they come to on the host", "",
                   float, BFloat16) {
  const ReduceOp op = GENERATE(ReduceOp::kSum, ReduceOp::kMax);
  Stream stream(kDevice);
  for (const int num_ranks : {1, 2, 3, 4, 5, 7, 8, 13, 64}) {
    for (const std::int64_t count : {0, 1, 255, 1031}) {
      INFO(num_ranks << " ranks, " << count << " elements");
      const auto contributions = make_contributions<TestType>(num_ranks, count);
      const auto found = reduced_on_device(contributions, num_ranks, count, op, stream);
      CHECK(found == reduced_on_host(contributions, num_ranks, count, op));
    }
  }
}

TEST_CASE("A maximum over ranks on a device is NaN where one of them is") {
  const auto bad_rank = GENERATE(std::size_t{0}, std::size_t{1}, std::size_t{2});
  std::vector<float> contributions{1.0F, 3.0F, 2.0F};
  contributions[bad_rank] = std::numeric_limits<float>::quiet_NaN();
  Stream stream(kDevice);
  CHECK(std::isnan(reduced_on_device(contributions, 3, 1, ReduceOp::kMax, stream)[0]));
}

}  // namespace fathom::parallel
