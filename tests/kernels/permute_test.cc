#include "kernels/permute.h"

#include "tests/kernels/op_reference.h"

namespace fathom::kernels {
namespace {

std::vector<std::int32_t> scattered_experts(std::int64_t num_slots, int num_experts) {
  std::vector<std::int32_t> ids;
  for (std::int64_t slot = 0; slot < num_slots; ++slot) {
    ids.push_back(static_cast<std::int32_t>((slot * slot + 3 * slot) % num_experts));
  }
  return ids;
}

struct Order {
  Order(std::int64_t num_tokens, std::int64_t top_k, int num_experts, Stream& stream)
      : expert_ids(tensor_of(scattered_experts(num_tokens * top_k, num_experts),
                             Shape{num_tokens, top_k}, stream)),
        counts(Tensor::empty(Shape{num_experts}, DType::kInt64, stream)),
        slot_of_row(Tensor::empty(Shape{num_tokens * top_k}, DType::kInt32, stream)),
        row_of_slot(Tensor::empty(Shape{num_tokens * top_k}, DType::kInt32, stream)) {
    sort_slots(expert_ids, counts, slot_of_row, row_of_slot, stream);
  }
  std::int64_t row(std::int64_t slot) const { return row_of_slot.data<std::int32_t>()[slot]; }

  Tensor expert_ids;
  Tensor counts;
  Tensor slot_of_row;
  Tensor row_of_slot;
};

}  // namespace

TEST_CASE("sort_slots orders the slots by expert and keeps their order within one") {
  Stream stream;
  const Tensor ids = tensor_of<std::int32_t>({2, 0, 2, 1, 0, 2}, Shape{3, 2}, stream);
  Tensor counts = Tensor::empty(Shape{4}, DType::kInt64, stream);
  Tensor slot_of_row = Tensor::empty(Shape{6}, DType::kInt32, stream);
  Tensor row_of_slot = Tensor::empty(Shape{6}, DType::kInt32, stream);
  sort_slots(ids, counts, slot_of_row, row_of_slot, stream);
  CHECK(vector_of<std::int64_t>(counts) == std::vector<std::int64_t>{2, 1, 3, 0});
  CHECK(vector_of<std::int32_t>(slot_of_row) == std::vector<std::int32_t>{1, 4, 3, 0, 2, 5});
  CHECK(vector_of<std::int32_t>(row_of_slot) == std::vector<std::int32_t>{3, 0, 4, 2, 1, 5});
}

TEST_CASE("arrange_rows says where each expert's rows begin") {
  Stream stream;
  const Tensor counts = tensor_of<std::int64_t>({2, 0, 3'000'000'000, 1}, Shape{1, 2, 2}, stream);
  Tensor offsets = Tensor::empty(Shape{3}, DType::kInt64, stream);
  Tensor part_offsets = Tensor::empty(Shape{5}, DType::kInt64, stream);
  Tensor nothing_moves;
  arrange_rows(counts, offsets, part_offsets, nothing_moves, nothing_moves, stream);
  CHECK(vector_of<std::int64_t>(offsets) == std::vector<std::int64_t>{0, 2, 3'000'000'003});
  CHECK(vector_of<std::int64_t>(part_offsets) ==
        std::vector<std::int64_t>{0, 2, 2, 3'000'000'002, 3'000'000'003});
  Tensor short_one = Tensor::empty(Shape{2}, DType::kInt64, stream);
  CHECK_THROWS_AS(
      arrange_rows(counts, short_one, part_offsets, nothing_moves, nothing_moves, stream),
      InternalError);
}

TEST_CASE("arrange_rows brings the rows of an expert together, in the order of ranks") {
  Stream stream;
  // Rank 0 sends a row to expert b, rank 1 two to a and one to b; c gets none.
  const Tensor counts = tensor_of<std::int64_t>({0, 1, 0, 2, 1, 0}, Shape{2, 3, 1}, stream);
  Tensor offsets = Tensor::empty(Shape{4}, DType::kInt64, stream);
  Tensor undefined;
  Tensor arrival_of_row = Tensor::empty(Shape{4}, DType::kInt32, stream);
  Tensor row_of_arrival = Tensor::empty(Shape{4}, DType::kInt32, stream);
  arrange_rows(counts, offsets, undefined, arrival_of_row, row_of_arrival, stream);
  CHECK(vector_of<std::int64_t>(offsets) == std::vector<std::int64_t>{0, 2, 4, 4});
  CHECK(vector_of<std::int32_t>(arrival_of_row) == std::vector<std::int32_t>{1, 2, 0, 3});
  CHECK(vector_of<std::int32_t>(row_of_arrival) == std::vector<std::int32_t>{2, 0, 1, 3});
}

TEST_CASE("sort_slots refuses an expert that does not exist") {
  Stream stream;
  Tensor counts = Tensor::empty(Shape{4}, DType::kInt64, stream);
  Tensor rows = Tensor::empty(Shape{2}, DType::kInt32, stream);
  Tensor slots = Tensor::empty(Shape{2}, DType::kInt32, stream);
  const std::int32_t bad = GENERATE(4, -1);
  const Tensor ids = tensor_of<std::int32_t>({0, bad}, Shape{2, 1}, stream);
  CHECK_THROWS_AS(sort_slots(ids, counts, slots, rows, stream), InternalError);
}

TEST_CASE(
    "permute_forward takes each token's row to its experts, permute_backward sums them back") {
  Stream stream;
  const std::int64_t num_tokens = GENERATE(0, 1, 13);
  const std::int64_t hidden = GENERATE(1, 16, 35);
  const std::int64_t top_k = 3;
  const Order order(num_tokens, top_k, 5, stream);
  const Tensor x = random_tensor(Shape{num_tokens, hidden}, "x", stream);
  Tensor rows = Tensor::empty(Shape{num_tokens * top_k, hidden}, DType::kFloat32, stream);
  permute_forward(x, order.slot_of_row, static_cast<int>(top_k), rows, stream);

  const Tensor d_rows = random_tensor(rows.shape(), "d_rows", stream);
  Tensor dx = Tensor::empty(x.shape(), DType::kFloat32, stream);
  Tensor added = random_tensor(x.shape(), "before", stream);
  std::vector<double> want(static_cast<std::size_t>(dx.numel()), 0.0);
  std::vector<double> want_added = doubles(added);
  for (std::int64_t slot = 0; slot < num_tokens * top_k; ++slot) {
    for (std::int64_t c = 0; c < hidden; ++c) {
      const auto element = static_cast<std::size_t>(slot / top_k * hidden + c);
      REQUIRE(rows.data<float>()[order.row(slot) * hidden + c] == x.data<float>()[element]);
      want[element] += d_rows.data<float>()[order.row(slot) * hidden + c];
      want_added[element] += d_rows.data<float>()[order.row(slot) * hidden + c];
    }
  }
  permute_backward(d_rows, order.row_of_slot, dx, false, stream);
  permute_backward(d_rows, order.row_of_slot, added, true, stream);
  CHECK(largest_error(dx, want) < 1e-6);
  CHECK(largest_error(added, want_added) < 1e-6);
}

TEST_CASE("combine_forward adds the gated rows of a token, combine_backward is its gradient") {
  Stream stream;
  const std::int64_t num_tokens = GENERATE(0, 1, 11);
  const std::int64_t hidden = GENERATE(1, 16, 35);
  const std::int64_t top_k = 4;
  const Order order(num_tokens, top_k, 6, stream);
  const Tensor rows = random_tensor(Shape{num_tokens * top_k, hidden}, "rows", stream);
  const Tensor gates = random_tensor(Shape{num_tokens, top_k}, "gates", stream);
  const Tensor dy = random_tensor(Shape{num_tokens, hidden}, "dy", stream);
  Tensor y = random_tensor(dy.shape(), "y", stream);
  std::vector<double> want_y = doubles(y);
  std::vector<double> want_rows(static_cast<std::size_t>(rows.numel()), 0.0);
  std::vector<double> want_gates(static_cast<std::size_t>(gates.numel()), 0.0);
  for (std::int64_t slot = 0; slot < num_tokens * top_k; ++slot) {
    const double gate = gates.data<float>()[slot];
    for (std::int64_t c = 0; c < hidden; ++c) {
      const std::int64_t from = order.row(slot) * hidden + c;
      const std::int64_t to = slot / top_k * hidden + c;
      const double row = rows.data<float>()[from];
      const double gradient = dy.data<float>()[to];
      want_y[static_cast<std::size_t>(to)] += gate * row;
      want_rows[static_cast<std::size_t>(from)] = gate * gradient;
      want_gates[static_cast<std::size_t>(slot)] += row * gradient;
    }
  }
  combine_forward(rows, order.row_of_slot, gates, y, stream);
  CHECK(largest_error(y, want_y) < 1e-6);
  Tensor d_rows = Tensor::empty(rows.shape(), DType::kFloat32, stream);
  Tensor d_gates = Tensor::empty(gates.shape(), DType::kFloat32, stream);
  combine_backward(dy, rows, order.row_of_slot, gates, d_rows, d_gates, stream);
  CHECK(largest_error(d_rows, want_rows) < 1e-6);
  CHECK(largest_error(d_gates, want_gates) < 2e-6);
}

TEST_CASE("gather_rows copies whole rows and refuses one that does not exist") {
  Stream stream;
  const Tensor source = random_tensor(Shape{3, 5}, "source", stream);
  Tensor destination = Tensor::empty(Shape{4, 5}, DType::kFloat32, stream);
  gather_rows(source, tensor_of<std::int32_t>({2, 0, 2, 1}, Shape{4}, stream), destination, stream);
  const std::vector<int> rows{2, 0, 2, 1};
  for (int i = 0; i < 20; ++i) {
    CHECK(destination.data<float>()[i] == source.data<float>()[rows[i / 5] * 5 + i % 5]);
  }
  const std::int32_t bad = GENERATE(3, -1);
  const Tensor index = tensor_of<std::int32_t>({0, 1, bad, 1}, Shape{4}, stream);
  CHECK_THROWS_AS(gather_rows(source, index, destination, stream), InternalError);
}

TEST_CASE("Moving rows gives the same bits on any number of threads") {
  check_same_bits_on_any_threads([](Stream& stream) {
    const std::int64_t num_tokens = 601;
    const std::int64_t hidden = 131;
    const Order order(num_tokens, 4, 7, stream);
    const Tensor x = random_tensor(Shape{num_tokens, hidden}, "x", stream);
    const Tensor gates = random_tensor(Shape{num_tokens, 4}, "gates", stream);
    Tensor rows = Tensor::empty(Shape{num_tokens * 4, hidden}, DType::kFloat32, stream);
    permute_forward(x, order.slot_of_row, 4, rows, stream);
    Tensor y = filled(x.shape(), 0.0F, stream);
    combine_forward(rows, order.row_of_slot, gates, y, stream);
    Tensor d_rows = Tensor::empty(rows.shape(), DType::kFloat32, stream);
    Tensor d_gates = Tensor::empty(gates.shape(), DType::kFloat32, stream);
    combine_backward(x, rows, order.row_of_slot, gates, d_rows, d_gates, stream);
    Tensor dx = Tensor::empty(x.shape(), DType::kFloat32, stream);
    permute_backward(d_rows, order.row_of_slot, dx, false, stream);
    return std::vector<Tensor>{rows, y, d_rows, d_gates, dx};
  });
}

TEST_CASE("Moving rows refuses shapes that do not fit") {
  Stream stream;
  const Order order(3, 2, 4, stream);
  const Tensor x = filled(Shape{3, 8}, 1.0F, stream);
  Tensor rows = filled(Shape{6, 8}, 1.0F, stream);
  Tensor narrow = filled(Shape{6, 7}, 1.0F, stream);
  CHECK_THROWS_AS(permute_forward(x, order.slot_of_row, 2, narrow, stream), InternalError);
  CHECK_THROWS_AS(permute_forward(x, order.slot_of_row, 3, rows, stream), InternalError);
  Tensor y = filled(Shape{4, 8}, 1.0F, stream);
  CHECK_THROWS_AS(permute_backward(rows, order.row_of_slot, y, false, stream), InternalError);
  const Tensor gates = filled(Shape{3, 2}, 1.0F, stream);
  CHECK_THROWS_AS(combine_forward(rows, order.row_of_slot, gates, y, stream), InternalError);
}

}  // namespace fathom::kernels
