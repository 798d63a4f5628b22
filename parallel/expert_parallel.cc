#include "parallel/expert_parallel.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "core/host_copy.h"
#include "kernels/permute.h"
#include "kernels/router.h"

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

// Slots of this rank's tokens by expert and unit, an expert rank's experts a row: [expert ranks,
// local experts, num_units].
Tensor count_slots(const Tensor& expert_ids, const Tensor& of_experts, std::int64_t num_units,
                   const Shape& shape, Stream& stream) {
  if (num_units == 1) {
    return of_experts.reshape(shape);
  }
  Tensor counts = Tensor::zeros(Shape{of_experts.numel(), num_units}, DType::kInt64, stream);
  kernels::count_experts(expert_ids, counts, stream);
  return counts.reshape(shape);
}

// counts [expert ranks, ...]: the sum of each rank's. The host waits for the stream.
std::vector<std::int64_t> rows_by_rank(const Tensor& counts, Stream& stream) {
  const std::vector<std::int64_t> values = to_host<std::int64_t>(counts, stream);
  const std::int64_t width = counts.numel() / counts.size(0);
  std::vector<std::int64_t> rows;
  for (auto first = values.begin(); first != values.end(); first += width) {
    rows.push_back(std::accumulate(first, first + width, std::int64_t{0}));
  }
  return rows;
}

// counts by the rank that slots go to -> counts by the rank that they come from.
Tensor exchange_counts(ExpertRoute& route, const Tensor& leaving, Communicator& expert,
                       Stream& stream) {
  Tensor arriving = Tensor::empty(leaving.shape(), DType::kInt64, stream);
  const std::vector<std::int64_t> one_each(static_cast<std::size_t>(expert.world_size()), 1);
  expert.all_to_all(leaving, one_each, arriving, one_each, stream).wait();
  route.rows_to_each = rows_by_rank(leaving, stream);
  route.rows_from_each = rows_by_rank(arriving, stream);
  return arriving;
}

}  // namespace

ExpertRoute plan_expert_route(const Tensor& expert_ids, const ExpertRouteOptions& options,
                              Communicator& expert, Stream& stream) {
  FATHOM_CHECK(options.num_experts % expert.world_size() == 0, options.num_experts,
               " experts over ", expert.world_size(), " expert ranks");
  const std::int64_t local_experts = options.num_experts / expert.world_size();
  FATHOM_CHECK(options.unit_tokens == 0 || expert_ids.size(0) % options.unit_tokens == 0,
               expert_ids.size(0), " tokens are not whole units of ", options.unit_tokens);
  const std::int64_t num_units =
      options.unit_tokens == 0 ? 1 : expert_ids.size(0) / options.unit_tokens;
  ExpertRoute route;
  route.num_home_rows = expert_ids.numel();
  route.slot_of_row = Tensor::empty(Shape{route.num_home_rows}, DType::kInt32, stream);
  route.row_of_slot = Tensor::empty(Shape{route.num_home_rows}, DType::kInt32, stream);
  Tensor of_experts = Tensor::empty(Shape{options.num_experts}, DType::kInt64, stream);
  kernels::sort_slots(expert_ids, of_experts, route.slot_of_row, route.row_of_slot, stream);
  const Shape by_rank{expert.world_size(), local_experts, num_units};
  Tensor counts = count_slots(expert_ids, of_experts, num_units, by_rank, stream);
  if (expert.world_size() == 1) {  // nothing that the host needs to know
    route.rows_to_each = route.rows_from_each = {route.num_home_rows};
  } else if (stream.is_meta()) {
    assume_counts(route, options, expert);
  } else {
    counts = exchange_counts(route, counts, expert, stream);
  }
  route.num_expert_rows =
      std::accumulate(route.rows_from_each.begin(), route.rows_from_each.end(), std::int64_t{0});
  route.offsets = Tensor::empty(Shape{local_experts + 1}, DType::kInt64, stream);
  if (options.unit_tokens != 0) {
    route.part_offsets = Tensor::empty(Shape{counts.numel() + 1}, DType::kInt64, stream);
  }
  if (expert.world_size() > 1) {
    route.arrival_of_row = Tensor::empty(Shape{route.num_expert_rows}, DType::kInt32, stream);
    route.row_of_arrival = Tensor::empty(Shape{route.num_expert_rows}, DType::kInt32, stream);
  }
  kernels::arrange_rows(counts, route.offsets, route.part_offsets, route.arrival_of_row,
                        route.row_of_arrival, stream);
  if (!route.part_offsets.defined()) {
    route.part_offsets = route.offsets;
  }
  return route;
}

MovingRows send_to_experts(const ExpertRoute& route, const Tensor& home_rows, Communicator& expert,
                           Stream& stream) {
  if (expert.world_size() == 1) {
    return {home_rows, Work()};
  }
  Tensor arrived =
      Tensor::empty(Shape{route.num_expert_rows, home_rows.size(1)}, home_rows.dtype(), stream);
  Work work =
      expert.all_to_all(home_rows, route.rows_to_each, arrived, route.rows_from_each, stream);
  return {std::move(arrived), std::move(work)};
}

MovingRows return_from_experts(const ExpertRoute& route, const Tensor& arrived_rows,
                               Communicator& expert, Stream& stream) {
  if (expert.world_size() == 1) {
    return {arrived_rows, Work()};
  }
  Tensor home =
      Tensor::empty(Shape{route.num_home_rows, arrived_rows.size(1)}, arrived_rows.dtype(), stream);
  Work work =
      expert.all_to_all(arrived_rows, route.rows_from_each, home, route.rows_to_each, stream);
  return {std::move(home), std::move(work)};
}

namespace {

// The rows in the order of `index`; undefined: in their own.
Tensor rearranged(const Tensor& rows, const Tensor& index, Stream& stream) {
  if (!index.defined()) {
    return rows;
  }
  Tensor result = Tensor::empty(rows.shape(), rows.dtype(), stream);
  kernels::gather_rows(rows, index, result, stream);
  return result;
}

}  // namespace

Tensor rows_by_expert(const ExpertRoute& route, const Tensor& arrived_rows, Stream& stream) {
  return rearranged(arrived_rows, route.arrival_of_row, stream);
}

Tensor rows_by_arrival(const ExpertRoute& route, const Tensor& expert_rows, Stream& stream) {
  return rearranged(expert_rows, route.row_of_arrival, stream);
}

}  // namespace fathom::parallel
