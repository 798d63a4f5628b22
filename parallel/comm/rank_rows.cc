#include "parallel/comm/rank_rows.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"

namespace fathom::parallel {

void check_rows_alike(const Tensor& a, const Tensor& b, std::string_view operation) {
  const auto a_sizes = a.shape().sizes();
  const auto b_sizes = b.shape().sizes();
  FATHOM_CHECK(a.dtype() == b.dtype() && !a_sizes.empty() && a_sizes.size() == b_sizes.size() &&
                   std::equal(a_sizes.begin() + 1, a_sizes.end(), b_sizes.begin() + 1),
               operation, " of ", a.dtype(), ' ', a.shape(), " and ", b.dtype(), ' ', b.shape());
}

void check_shard(const Tensor& shard, const Tensor& full, int num_ranks,
                 std::string_view operation) {
  check_rows_alike(shard, full, operation);
  FATHOM_CHECK(full.size(0) == num_ranks * shard.size(0), operation, " of ", shard.shape(),
               " on each of ", num_ranks, " ranks and ", full.shape());
}

std::int64_t row_bytes(const Tensor& x) {
  std::int64_t bytes = size_of(x.dtype());
  for (const std::int64_t size : x.shape().sizes().subspan(1)) {
    bytes *= size;
  }
  return bytes;
}

std::vector<std::int64_t> row_begins(std::span<const std::int64_t> num_rows, const Tensor& x,
                                     int num_ranks) {
  const auto size = static_cast<std::size_t>(num_ranks);
  FATHOM_CHECK(num_rows.size() == size, num_rows.size(), " counts for ", size, " ranks");
  std::vector<std::int64_t> begins(size + 1);
  std::partial_sum(num_rows.begin(), num_rows.end(), begins.begin() + 1);
  FATHOM_CHECK(begins[size] == x.size(0), "counts of ", begins[size], " rows for ", x.shape());
  return begins;
}

}  // namespace fathom::parallel
