#include "kernels/permute.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/cpu/simd.h"

namespace fathom::kernels {
namespace {

using simd::Floats;

constexpr std::int64_t kGrainElements = 16384;

std::int64_t row_grain(std::int64_t hidden) { return 1 + kGrainElements / (hidden + 1); }

// Counting sort: it is stable, and a pass over 8192 slots takes some 10 us.
void sort_slots_cpu(const Tensor& expert_ids, Tensor& counts, Tensor& slot_of_row,
                    Tensor& row_of_slot, Stream& /*stream*/) {
  const auto experts = expert_ids.values<std::int32_t>();
  const auto count = counts.mutable_values<std::int64_t>();
  std::fill(count.begin(), count.end(), 0);
  for (std::size_t slot = 0; slot < experts.size(); ++slot) {
    const auto expert = static_cast<std::size_t>(experts[slot]);  // a negative one becomes huge
    FATHOM_CHECK(expert < count.size(), "slot ", slot, " has expert ", experts[slot], " of ",
                 count.size());
    ++count[expert];
  }
  std::vector<std::int64_t> next_row(count.size());
  std::int64_t row = 0;
  for (std::size_t expert = 0; expert < count.size(); ++expert) {
    next_row[expert] = row;
    row += count[expert];
  }
  const auto slots = slot_of_row.mutable_values<std::int32_t>();
  const auto rows = row_of_slot.mutable_values<std::int32_t>();
  for (std::size_t slot = 0; slot < experts.size(); ++slot) {
    const std::int64_t place = next_row[static_cast<std::size_t>(experts[slot])]++;
    slots[static_cast<std::size_t>(place)] = static_cast<std::int32_t>(slot);
    rows[slot] = static_cast<std::int32_t>(place);
  }
}

// Calls body(rank, expert, unit, rows) in the order (expert, rank, unit).
template <class Body>
void for_each_part(const Tensor& counts, const Body& body) {
  const auto rows = counts.values<std::int64_t>();
  const std::int64_t num_experts = counts.size(1);
  const std::int64_t num_units = counts.size(2);
  for (std::int64_t expert = 0; expert < num_experts; ++expert) {
    for (std::int64_t rank = 0; rank < counts.size(0); ++rank) {
      for (std::int64_t unit = 0; unit < num_units; ++unit) {
        const std::int64_t place = (rank * num_experts + expert) * num_units + unit;
        body(rank, expert, unit, rows[static_cast<std::size_t>(place)]);
      }
    }
  }
}

// Where the rows of each (rank, expert) arrive.
std::vector<std::int64_t> arrivals(const Tensor& counts) {
  const auto rows = counts.values<std::int64_t>();
  const auto num_units = static_cast<std::size_t>(counts.size(2));
  std::vector<std::int64_t> starts;
  std::int64_t row = 0;
  for (std::size_t place = 0; place < rows.size(); ++place) {
    if (place % num_units == 0) {
      starts.push_back(row);
    }
    row += rows[place];
  }
  return starts;
}

void arrange_rows_cpu(const Tensor& counts, Tensor& offsets, Tensor& part_offsets,
                      Tensor& arrival_of_row, Tensor& row_of_arrival, Stream& /*stream*/) {
  const auto of_expert = offsets.mutable_values<std::int64_t>();
  const auto of_part = part_offsets.defined() ? part_offsets.mutable_values<std::int64_t>()
                                              : std::span<std::int64_t>();
  std::int64_t row = 0;
  std::size_t part = 0;
  for_each_part(counts,
                [&](std::int64_t rank, std::int64_t expert, std::int64_t unit, std::int64_t rows) {
                  if (rank == 0 && unit == 0) {
                    of_expert[static_cast<std::size_t>(expert)] = row;
                  }
                  if (!of_part.empty()) {
                    of_part[part++] = row;
                  }
                  row += rows;
                });
  of_expert.back() = row;
  if (!of_part.empty()) {
    of_part.back() = row;
  }
  if (counts.size(0) == 1) {
    return;
  }
  FATHOM_CHECK(row == arrival_of_row.numel(), row, " rows for ", arrival_of_row.numel());
  const auto arrival_of = arrival_of_row.mutable_values<std::int32_t>();
  const auto row_of = row_of_arrival.mutable_values<std::int32_t>();
  std::vector<std::int64_t> next_arrival = arrivals(counts);
  row = 0;
  for_each_part(counts, [&](std::int64_t rank, std::int64_t expert, std::int64_t /*unit*/,
                            std::int64_t rows) {
    std::int64_t& arrival = next_arrival[static_cast<std::size_t>(rank * counts.size(1) + expert)];
    for (const std::int64_t end = row + rows; row < end; ++row, ++arrival) {
      arrival_of[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(arrival);
      row_of[static_cast<std::size_t>(arrival)] = static_cast<std::int32_t>(row);
    }
  });
}

std::int64_t checked_row(const std::int32_t* index, std::int64_t i, std::int32_t divisor,
                         std::int64_t num_rows) {
  const std::int64_t row = index[i] / divisor;
  FATHOM_CHECK(index[i] >= 0 && row < num_rows, "index[", i, "] = ", index[i], " with ", num_rows,
               " rows");
  return row;
}

// destination[i] = source[index[i] / divisor]
void copy_rows(const Tensor& source, const Tensor& index, std::int32_t divisor, Tensor& destination,
               Stream& stream) {
  const std::int64_t num_source_rows = source.size(0);
  const std::int64_t hidden = source.size(1);
  const float* from = source.data<float>();
  const auto* which = index.data<std::int32_t>();
  auto* to = destination.mutable_data<float>();
  const auto row_bytes = static_cast<std::size_t>(hidden) * sizeof(float);
  stream.parallel_for(destination.size(0), row_grain(hidden),
                      [=](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t i = begin; i < end; ++i) {
                          const std::int64_t row = checked_row(which, i, divisor, num_source_rows);
                          std::memcpy(to + i * hidden, from + row * hidden, row_bytes);
                        }
                      });
}

void gather_rows_cpu(const Tensor& source, const Tensor& index, Tensor& destination,
                     Stream& stream) {
  copy_rows(source, index, 1, destination, stream);
}

void permute_forward_cpu(const Tensor& x, const Tensor& slot_of_row, int top_k, Tensor& rows,
                         Stream& stream) {
  copy_rows(x, slot_of_row, top_k, rows, stream);
}

// Rows of `hidden` floats, and which of them belong to the top_k slots of one token.
struct SlotRows {
  const float* rows;
  const std::int32_t* row;
  std::int64_t top_k;
  std::int64_t hidden;

  const float* at(std::int64_t slot) const { return rows + row[slot] * hidden; }
};

// to = (or +=) the sum of the rows in slot order.
HWY_INLINE void sum_rows(const SlotRows& slots, bool accumulate, float* to) {
  simd::for_each_block(slots.hidden, [=](std::int64_t column, auto extent) FATHOM_INLINE_LAMBDA {
    Floats sum = simd::load(slots.at(0) + column, extent);
    for (std::int64_t j = 1; j < slots.top_k; ++j) {
      sum = sum + simd::load(slots.at(j) + column, extent);
    }
    simd::store(accumulate ? simd::load(to + column, extent) + sum : sum, to + column, extent);
  });
}

// to += the sum of gate * row in slot order.
HWY_INLINE void add_gated_rows(const SlotRows& slots, const float* gate, float* to) {
  simd::for_each_block(slots.hidden, [=](std::int64_t column, auto extent) FATHOM_INLINE_LAMBDA {
    Floats sum = simd::zero();
    for (std::int64_t j = 0; j < slots.top_k; ++j) {
      sum = simd::fma(simd::broadcast(gate[j]), simd::load(slots.at(j) + column, extent), sum);
    }
    simd::store(simd::load(to + column, extent) + sum, to + column, extent);
  });
}

void permute_backward_cpu(const Tensor& d_rows, const Tensor& row_of_slot, Tensor& dx,
                          bool accumulate, Stream& stream) {
  if (dx.numel() == 0) {
    return;
  }
  const std::int64_t hidden = dx.size(1);
  const std::int64_t top_k = d_rows.size(0) / dx.size(0);
  const float* rows = d_rows.data<float>();
  const auto* row_of = row_of_slot.data<std::int32_t>();
  auto* gradient = dx.mutable_data<float>();
  stream.parallel_for(dx.size(0), row_grain(hidden), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      sum_rows({rows, row_of + token * top_k, top_k, hidden}, accumulate,
               gradient + token * hidden);
    }
  });
}

void combine_forward_cpu(const Tensor& rows, const Tensor& row_of_slot, const Tensor& gates,
                         Tensor& y, Stream& stream) {
  const std::int64_t hidden = y.size(1);
  const std::int64_t top_k = gates.size(1);
  const float* expert_rows = rows.data<float>();
  const auto* row_of = row_of_slot.data<std::int32_t>();
  const float* gate_values = gates.data<float>();
  auto* out = y.mutable_data<float>();
  stream.parallel_for(y.size(0), row_grain(hidden), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      add_gated_rows({expert_rows, row_of + token * top_k, top_k, hidden},
                     gate_values + token * top_k, out + token * hidden);
    }
  });
}

void combine_backward_cpu(const Tensor& dy, const Tensor& rows, const Tensor& row_of_slot,
                          const Tensor& gates, Tensor& d_rows, Tensor& d_gates, Stream& stream) {
  const std::int64_t hidden = dy.size(1);
  const std::int64_t top_k = gates.size(1);
  const float* gradient = dy.data<float>();
  const float* expert_rows = rows.data<float>();
  const auto* row_of = row_of_slot.data<std::int32_t>();
  const float* gate_values = gates.data<float>();
  auto* row_gradients = d_rows.mutable_data<float>();
  auto* gate_gradients = d_gates.mutable_data<float>();
  stream.parallel_for(dy.size(0), row_grain(hidden), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t slot = begin * top_k; slot < end * top_k; ++slot) {
      const float* from = gradient + slot / top_k * hidden;
      const float* expert_row = expert_rows + row_of[slot] * hidden;
      float* to = row_gradients + row_of[slot] * hidden;
      const Floats gate = simd::broadcast(gate_values[slot]);
      Floats dot = simd::zero();
      simd::for_each_block(hidden, [&](std::int64_t column, auto extent) FATHOM_INLINE_LAMBDA {
        const Floats here = simd::load(from + column, extent);
        dot = simd::fma(here, simd::load(expert_row + column, extent), dot);
        simd::store(gate * here, to + column, extent);
      });
      gate_gradients[slot] = simd::sum(dot);
    }
  });
}

const KernelRegistration register_sort_slots(sort_slots_slot, DeviceType::kCpu, sort_slots_cpu);
const KernelRegistration register_arrange_rows(arrange_rows_slot, DeviceType::kCpu,
                                               arrange_rows_cpu);
const KernelRegistration register_permute_forward(permute_forward_slot, DeviceType::kCpu,
                                                  permute_forward_cpu);
const KernelRegistration register_permute_backward(permute_backward_slot, DeviceType::kCpu,
                                                   permute_backward_cpu);
const KernelRegistration register_combine_forward(combine_forward_slot, DeviceType::kCpu,
                                                  combine_forward_cpu);
const KernelRegistration register_combine_backward(combine_backward_slot, DeviceType::kCpu,
                                                   combine_backward_cpu);
const KernelRegistration register_gather_rows(gather_rows_slot, DeviceType::kCpu, gather_rows_cpu);

}  // namespace
}  // namespace fathom::kernels
