#include "kernels/permute.h"

#include <limits>

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, Tensor&, Tensor&, Tensor&, Stream&)> sort_slots_slot{
    "sort_slots"};
constinit KernelSlot<void(const Tensor&, Tensor&, Tensor&, Tensor&, Tensor&, Stream&)>
    arrange_rows_slot{"arrange_rows"};
constinit KernelSlot<void(const Tensor&, const Tensor&, int, Tensor&, Stream&)>
    permute_forward_slot{"permute_forward"};
constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, bool, Stream&)>
    permute_backward_slot{"permute_backward"};
constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Stream&)>
    combine_forward_slot{"combine_forward"};
constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, const Tensor&, Tensor&,
                          Tensor&, Stream&)>
    combine_backward_slot{"combine_backward"};
constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Stream&)> gather_rows_slot{
    "gather_rows"};

namespace {

constexpr std::int64_t kMaxTopK = 64;

// rows [num_tokens * top_k, hidden_size] and the permutation over them fit per_token [num_tokens,
// hidden_size].
void check_rows(const TensorCheck& check, const Tensor& rows, const Tensor& permutation,
                const Tensor& per_token, std::int64_t top_k) {
  FATHOM_CHECK(top_k >= 1 && top_k <= kMaxTopK, "top_k ", top_k);
  check.rank("tokens' rows", per_token, 2);
  const DType dtype = check.activation_dtype("tokens' rows", per_token);
  const std::int64_t num_slots = per_token.size(0) * top_k;
  check.shape("experts' rows", rows, Shape{num_slots, per_token.size(1)}, dtype);
  check.shape("permutation", permutation, Shape{num_slots}, DType::kInt32);
}

void check_combine(const TensorCheck& check, const Tensor& rows, const Tensor& row_of_slot,
                   const Tensor& gates, const Tensor& per_token) {
  check.rank("gates", gates, 2);
  check_rows(check, rows, row_of_slot, per_token, gates.size(1));
  check.shape("gates", gates, Shape{per_token.size(0), gates.size(1)});
}

}  // namespace

void sort_slots(const Tensor& expert_ids, Tensor& counts, Tensor& slot_of_row, Tensor& row_of_slot,
                Stream& stream) {
  const TensorCheck check("sort_slots", stream);
  check.rank("expert_ids", expert_ids, 2);
  check.dtype_and_device("expert_ids", expert_ids, DType::kInt32);
  FATHOM_CHECK(expert_ids.numel() <= std::numeric_limits<std::int32_t>::max(), expert_ids.shape());
  check.rank("counts", counts, 1);
  check.dtype_and_device("counts", counts, DType::kInt64);
  check.shape("slot_of_row", slot_of_row, Shape{expert_ids.numel()}, DType::kInt32);
  check.shape("row_of_slot", row_of_slot, Shape{expert_ids.numel()}, DType::kInt32);
  sort_slots_slot(stream, expert_ids, counts, slot_of_row, row_of_slot);
}

void arrange_rows(const Tensor& counts, Tensor& offsets, Tensor& part_offsets,
                  Tensor& arrival_of_row, Tensor& row_of_arrival, Stream& stream) {
  const TensorCheck check("arrange_rows", stream);
  check.rank("counts", counts, 3);
  check.dtype_and_device("counts", counts, DType::kInt64);
  check.shape("offsets", offsets, Shape{counts.size(1) + 1}, DType::kInt64);
  if (part_offsets.defined()) {
    check.shape("part_offsets", part_offsets, Shape{counts.numel() + 1}, DType::kInt64);
  }
  if (counts.size(0) > 1) {
    check.rank("arrival_of_row", arrival_of_row, 1);
    check.dtype_and_device("arrival_of_row", arrival_of_row, DType::kInt32);
    check.shape("row_of_arrival", row_of_arrival, arrival_of_row.shape(), DType::kInt32);
  }
  arrange_rows_slot(stream, counts, offsets, part_offsets, arrival_of_row, row_of_arrival);
}

void permute_forward(const Tensor& x, const Tensor& slot_of_row, int top_k, Tensor& rows,
                     Stream& stream) {
  check_rows(TensorCheck("permute_forward", stream), rows, slot_of_row, x, top_k);
  permute_forward_slot(stream, x, slot_of_row, top_k, rows);
}

void permute_backward(const Tensor& d_rows, const Tensor& row_of_slot, Tensor& dx, bool accumulate,
                      Stream& stream) {
  const TensorCheck check("permute_backward", stream);
  check.rank("dx", dx, 2);
  check.rank("d_rows", d_rows, 2);
  const std::int64_t top_k = dx.size(0) == 0 ? 1 : d_rows.size(0) / dx.size(0);
  check_rows(check, d_rows, row_of_slot, dx, top_k);
  permute_backward_slot(stream, d_rows, row_of_slot, dx, accumulate);
}

void combine_forward(const Tensor& rows, const Tensor& row_of_slot, const Tensor& gates, Tensor& y,
                     Stream& stream) {
  check_combine(TensorCheck("combine_forward", stream), rows, row_of_slot, gates, y);
  combine_forward_slot(stream, rows, row_of_slot, gates, y);
}

void combine_backward(const Tensor& dy, const Tensor& rows, const Tensor& row_of_slot,
                      const Tensor& gates, Tensor& d_rows, Tensor& d_gates, Stream& stream) {
  const TensorCheck check("combine_backward", stream);
  check_combine(check, rows, row_of_slot, gates, dy);
  check.shape("d_rows", d_rows, rows.shape(), rows.dtype());
  check.shape("d_gates", d_gates, gates.shape());
  combine_backward_slot(stream, dy, rows, row_of_slot, gates, d_rows, d_gates);
}

void gather_rows(const Tensor& source, const Tensor& index, Tensor& destination, Stream& stream) {
  const TensorCheck check("gather_rows", stream);
  check.rank("index", index, 1);
  check.dtype_and_device("index", index, DType::kInt32);
  check.rank("source", source, 2);
  check.shape("destination", destination, Shape{index.size(0), source.size(1)},
              check.activation_dtype("source", source));
  gather_rows_slot(stream, source, index, destination);
}

}  // namespace fathom::kernels
