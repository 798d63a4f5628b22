#include "parallel/expert_parallel.h"

#include <cmath>
#include <numeric>
#include <span>
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

// Slots by (rank that they come from, unit of its tokens, expert of this rank).
struct PartCounts {
  std::int64_t num_ranks = 0;
  std::int64_t num_units = 0;
  std::int64_t num_experts = 0;
  std::vector<std::int64_t> counts;

  std::int64_t at(std::int64_t rank, std::int64_t unit, std::int64_t expert) const {
    return counts[static_cast<std::size_t>((rank * num_units + unit) * num_experts + expert)];
  }
  std::int64_t of_rank(std::int64_t rank, std::int64_t expert) const {
    std::int64_t total = 0;
    for (std::int64_t unit = 0; unit < num_units; ++unit) {
      total += at(rank, unit, expert);
    }
    return total;
  }
};

// Where the rows of each expert, and of each of its parts in the order (rank, unit), begin. Returns
// the former.
std::vector<std::int64_t> set_offsets(ExpertRoute& route, const PartCounts& parts, Stream& stream) {
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(route.offsets.numel()));
  std::vector<std::int64_t> part_offsets(static_cast<std::size_t>(route.part_offsets.numel()));
  const std::int64_t parts_per_expert = (std::ssize(part_offsets) - 1) / parts.num_experts;
  std::int64_t row = 0;
  for (std::int64_t e = 0; e < parts.num_experts; ++e) {
    offsets[static_cast<std::size_t>(e)] = row;
    for (std::int64_t i = 0; i < parts.num_ranks * parts.num_units; ++i) {
      if (i < parts_per_expert) {  // without units an expert is one part, and offsets serve both
        part_offsets[static_cast<std::size_t>(e * parts_per_expert + i)] = row;
      }
      row += parts.at(i / parts.num_units, i % parts.num_units, e);
    }
  }
  offsets.back() = row;
  part_offsets.back() = row;
  from_host<std::int64_t>(offsets, route.offsets, stream);
  from_host<std::int64_t>(part_offsets, route.part_offsets, stream);
  return offsets;
}

// Where each arrived row, in the order (rank, expert), goes in the order (expert, rank); the rows
// of each expert begin at `next_row`.
void arrange_by_expert(ExpertRoute& route, const PartCounts& parts,
                       std::vector<std::int64_t> next_row, Stream& stream) {
  std::vector<std::int32_t> arrival_of_row(static_cast<std::size_t>(route.num_expert_rows));
  std::vector<std::int32_t> row_of_arrival(arrival_of_row.size());
  std::int64_t arrival = 0;
  for (std::int64_t rank = 0; rank < parts.num_ranks; ++rank) {
    for (std::int64_t e = 0; e < parts.num_experts; ++e) {
      const std::int64_t count = parts.of_rank(rank, e);
      for (std::int64_t i = 0; i < count; ++i, ++arrival) {
        const std::int64_t row = next_row[static_cast<std::size_t>(e)]++;
        arrival_of_row[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(arrival);
        row_of_arrival[static_cast<std::size_t>(arrival)] = static_cast<std::int32_t>(row);
      }
    }
  }
  from_host<std::int32_t>(arrival_of_row, route.arrival_of_row, stream);
  from_host<std::int32_t>(row_of_arrival, route.row_of_arrival, stream);
}

void arrange(ExpertRoute& route, const PartCounts& parts, Stream& stream) {
  std::vector<std::int64_t> offsets = set_offsets(route, parts, stream);
  if (parts.num_ranks > 1) {
    arrange_by_expert(route, parts, std::move(offsets), stream);
  }
}

// Slots of each unit of this rank's tokens by expert: [num_units, num_experts].
Tensor count_by_unit(const Tensor& expert_ids, std::int64_t num_experts, std::int64_t num_units,
                     Stream& stream) {
  Tensor counts = Tensor::zeros(Shape{num_units, num_experts}, DType::kInt64, stream);
  const std::int64_t unit = expert_ids.size(0) / num_units;
  for (std::int64_t i = 0; i < num_units; ++i) {
    Tensor of_unit = counts.narrow(i, i + 1).reshape(Shape{num_experts});
    kernels::count_experts(expert_ids.narrow(i * unit, (i + 1) * unit), of_unit, stream);
  }
  return counts;
}

// counts [num_units, num_experts] of this rank's slots -> those for this rank's experts, and how
// many rows go to and come from each rank.
PartCounts exchange_counts(ExpertRoute& route, const Tensor& counts, Communicator& expert,
                           Stream& stream) {
  PartCounts parts{expert.world_size(), counts.size(0), counts.size(1) / expert.world_size(), {}};
  const std::vector<std::int64_t> host_counts = to_host<std::int64_t>(counts, stream);
  const std::span mine(host_counts);
  const auto width = static_cast<std::size_t>(parts.num_experts);
  const auto row = static_cast<std::size_t>(counts.size(1));
  std::vector<std::int64_t> all(static_cast<std::size_t>(parts.num_ranks) * mine.size());
  expert.all_gather_integers(mine, all);
  for (std::int64_t rank = 0; rank < parts.num_ranks; ++rank) {
    const auto index = static_cast<std::size_t>(rank);
    std::int64_t to_rank = 0;
    std::int64_t from_rank = 0;
    for (std::size_t unit = 0; unit < static_cast<std::size_t>(parts.num_units); ++unit) {
      const auto leaving = mine.subspan(unit * row + index * width, width);
      to_rank += std::accumulate(leaving.begin(), leaving.end(), std::int64_t{0});
      const auto arriving = std::span(all).subspan(
          index * mine.size() + unit * row + static_cast<std::size_t>(expert.rank()) * width,
          width);
      from_rank += std::accumulate(arriving.begin(), arriving.end(), std::int64_t{0});
      parts.counts.insert(parts.counts.end(), arriving.begin(), arriving.end());
    }
    route.rows_to_each.push_back(to_rank);
    route.rows_from_each.push_back(from_rank);
  }
  return parts;
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
  FATHOM_CHECK(options.unit_tokens == 0 || expert_ids.size(0) % options.unit_tokens == 0,
               expert_ids.size(0), " tokens are not whole units of ", options.unit_tokens);
  const std::int64_t num_units =
      options.unit_tokens == 0 ? 1 : expert_ids.size(0) / options.unit_tokens;
  const std::int64_t num_parts = expert.world_size() * num_units;
  route.part_offsets =
      options.unit_tokens == 0
          ? route.offsets
          : Tensor::empty(Shape{local_experts * num_parts + 1}, DType::kInt64, stream);
  Tensor counts = Tensor::empty(Shape{options.num_experts}, DType::kInt64, stream);
  kernels::sort_slots(expert_ids, counts, route.slot_of_row, route.row_of_slot, stream);
  const bool has_units = options.unit_tokens != 0;
  if (expert.world_size() == 1 && !has_units) {  // nothing that the host needs to know
    kernels::offsets_from_counts(counts, route.offsets, stream);
    route.rows_to_each = route.rows_from_each = {route.num_home_rows};
    route.num_expert_rows = route.num_home_rows;
    return route;
  }
  PartCounts parts;
  if (stream.is_meta()) {
    assume_counts(route, options, expert);
  } else {
    const Tensor by_unit = has_units
                               ? count_by_unit(expert_ids, options.num_experts, num_units, stream)
                               : counts.reshape(Shape{1, options.num_experts});
    parts = exchange_counts(route, by_unit, expert, stream);
  }
  route.num_expert_rows =
      std::accumulate(route.rows_from_each.begin(), route.rows_from_each.end(), std::int64_t{0});
  if (expert.world_size() > 1) {
    route.arrival_of_row = Tensor::empty(Shape{route.num_expert_rows}, DType::kInt32, stream);
    route.row_of_arrival = Tensor::empty(Shape{route.num_expert_rows}, DType::kInt32, stream);
  }
  if (!stream.is_meta()) {
    arrange(route, parts, stream);
  }
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
