#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/tensor.h"

// How the rows of tensors are dealt out to the ranks of a group. All throw InternalError with the
// shapes when they do not fit together.
namespace fathom::parallel {

// Up to here an all_reduce takes one round of messages, which is faster than two with fewer bytes.
inline constexpr std::int64_t kShortAllReduceBytes = std::int64_t{64} * 1024;

// Same dtype, and the same sizes in everything but dimension 0.
void check_rows_alike(const Tensor& a, const Tensor& b, std::string_view operation);
// `full` has the rows of `num_ranks` shards.
void check_shard(const Tensor& shard, const Tensor& full, int num_ranks,
                 std::string_view operation);
std::int64_t row_bytes(const Tensor& x);
// [num_ranks + 1]: the rows of rank r are [begins[r], begins[r + 1]); x has as many as there are.
std::vector<std::int64_t> row_begins(std::span<const std::int64_t> num_rows, const Tensor& x,
                                     int num_ranks);

}  // namespace fathom::parallel
