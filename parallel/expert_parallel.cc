#include "parallel/expert_parallel.h"

#include <cmath>
#include <numeric>

#include "core/error.h"
#include "kernels/permute.h"

namespace fathom::parallel {
namespace {

// On the meta device nobody chose: spread the slots evenly, and let this rank's experts get
// `assumed_imbalance` times that.
void assume_counts(ExpertRoute& route, const ExpertRouteOptions& options,
                   const Communicator& expert) {
  const std::int64_t ranks = expert.world_size();
  const double imbalance = ranks == 1 ? 1.0 : options.assumed_imbalance;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const std::int64_t even =
        route.num_home_rows / ranks + (rank < route.num_home_rows % ranks ? 1 : 0);
    route.rows_to_each.push_back(even);
    route.rows_from_each.push_back(std::llround(static_cast<double>(even) * imbalance));
  }
}

// counts_from_each [rank][local expert] -> offsets, and where each arrived row goes in the order
// (expert, rank).
void arrange_by_expert(ExpertRoute& route, const std::vector<std::int64_t>& counts_from_each,
                       std::int64_t local_experts, Stream& stream) {
  const auto ranks = static_cast<std::int64_t>(route.rows_from_each.size());
  const auto offsets = route.offsets.mutable_values<std::int64_t>();
  std::fill(offsets.begin(), offsets.end(), 0);
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    for (std::int64_t e = 0; e < local_experts; ++e) {
      offsets[static_cast<std::size_t>(e + 1)] +=
          counts_from_each[static_cast<std::size_t>(rank * local_experts + e)];
    }
  }
  std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  if (ranks == 1) {
    return;
  }
  route.arrival_of_row = Tensor::empty(Shape{route.num_expert_rows}, DType::kInt32, stream);
  route.row_of_arrival = Tensor::empty(Shape{route.num_expert_rows}, DType::kInt32, stream);
  const auto arrival_of_row = route.arrival_of_row.mutable_values<std::int32_t>();
  const auto row_of_arrival = route.row_of_arrival.mutable_values<std::int32_t>();
  std::vector<std::int64_t> next_row(offsets.begin(), offsets.end() - 1);
  std::int64_t arrival = 0;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    for (std::int64_t e = 0; e < local_experts; ++e) {
      const std::int64_t count =
          counts_from_each[static_cast<std::size_t>(rank * local_experts + e)];
      for (std::int64_t i = 0; i < count; ++i, ++arrival) {
        const std::int64_t row = next_row[static_cast<std::size_t>(e)]++;
        arrival_of_row[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(arrival);
        row_of_arrival[static_cast<std::size_t>(arrival)] = static_cast<std::int32_t>(row);
      }
    }
  }
}

// counts [num_experts] of this rank's slots -> counts_from_each, rows_to_each, rows_from_each.
std::vector<std::int64_t> exchange_counts(ExpertRoute& route, const Tensor& counts,
                                          std::int64_t local_experts, Communicator& expert) {
  const auto ranks = static_cast<std::size_t>(expert.world_size());
  const auto mine = counts.values<std::int64_t>();
  const auto width = static_cast<std::size_t>(local_experts);
  std::vector<std::int64_t> all(ranks * mine.size());
  expert.all_gather_integers(mine, all);
  std::vector<std::int64_t> from_each;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const auto to_rank = mine.subspan(rank * width, width);
    route.rows_to_each.push_back(std::accumulate(to_rank.begin(), to_rank.end(), std::int64_t{0}));
    const auto* const from =
        all.data() + rank * mine.size() + static_cast<std::size_t>(expert.rank()) * width;
    from_each.insert(from_each.end(), from, from + width);
    route.rows_from_each.push_back(std::accumulate(from, from + width, std::int64_t{0}));
  }
  return from_each;
}

}  // namespace

ExpertRoute plan_expert_route(const Tensor& expert_ids, const ExpertRouteOptions& options,
                              Communicator& expert, Stream& stream) {
  FATHOM_CHECK(options.num_experts % expert.world_size() == 0, options.num_experts,
               " experts over ", expert.world_size(), " expert ranks");
  const std::int64_t local_experts = options.num_experts / expert.world_size();
  ExpertRoute route;
  route.num_home_rows = expert_ids.numel();
  route.slot_of_row = Tensor::empty(Shape{route.num_home_rows}, DType::kInt32, stream);
  route.row_of_slot = Tensor::empty(Shape{route.num_home_rows}, DType::kInt32, stream);
  route.offsets = Tensor::empty(Shape{local_experts + 1}, DType::kInt64, stream);
  Tensor counts = Tensor::empty(Shape{options.num_experts}, DType::kInt64, stream);
  kernels::sort_slots(expert_ids, counts, route.slot_of_row, route.row_of_slot, stream);
  if (stream.is_meta()) {
    assume_counts(route, options, expert);
    route.num_expert_rows =
        std::accumulate(route.rows_from_each.begin(), route.rows_from_each.end(), std::int64_t{0});
    if (expert.world_size() > 1) {
      route.arrival_of_row = Tensor::empty(Shape{route.num_expert_rows}, DType::kInt32, stream);
      route.row_of_arrival = Tensor::empty(Shape{route.num_expert_rows}, DType::kInt32, stream);
    }
    return route;
  }
  const std::vector<std::int64_t> from_each = exchange_counts(route, counts, local_experts, expert);
  route.num_expert_rows =
      std::accumulate(route.rows_from_each.begin(), route.rows_from_each.end(), std::int64_t{0});
  arrange_by_expert(route, from_each, local_experts, stream);
  return route;
}

Tensor send_to_experts(const ExpertRoute& route, const Tensor& home_rows, Communicator& expert,
                       Stream& stream) {
  if (expert.world_size() == 1) {
    return home_rows;
  }
  const Shape shape{route.num_expert_rows, home_rows.size(1)};
  Tensor arrived = Tensor::empty(shape, home_rows.dtype(), stream);
  expert.all_to_all(home_rows, route.rows_to_each, arrived, route.rows_from_each, stream).wait();
  Tensor rows = Tensor::empty(shape, home_rows.dtype(), stream);
  kernels::gather_rows(arrived, route.arrival_of_row, rows, stream);
  return rows;
}

Tensor return_from_experts(const ExpertRoute& route, const Tensor& expert_rows,
                           Communicator& expert, Stream& stream) {
  if (expert.world_size() == 1) {
    return expert_rows;
  }
  Tensor leaving = Tensor::empty(expert_rows.shape(), expert_rows.dtype(), stream);
  kernels::gather_rows(expert_rows, route.row_of_arrival, leaving, stream);
  Tensor home =
      Tensor::empty(Shape{route.num_home_rows, expert_rows.size(1)}, expert_rows.dtype(), stream);
  expert.all_to_all(leaving, route.rows_from_each, home, route.rows_to_each, stream).wait();
  return home;
}

}  // namespace fathom::parallel
