#include "kernels/permute.h"

#include <numeric>

#include "core/rng.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

std::vector<std::int32_t> random_ids(std::int64_t count, std::uint64_t bound) {
  const RandomSource random(3, "ids");
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(i), bound)));
  }
  return ids;
}

struct Sorted {
  Sorted(const Tensor& expert_ids, std::int64_t num_experts, Stream& stream)
      : counts(Tensor::empty(Shape{num_experts}, DType::kInt64, stream)),
        slot_of_row(Tensor::empty(Shape{expert_ids.numel()}, DType::kInt32, stream)),
        row_of_slot(Tensor::empty(Shape{expert_ids.numel()}, DType::kInt32, stream)) {
    sort_slots(expert_ids, counts, slot_of_row, row_of_slot, stream);
  }
  Tensor counts, slot_of_row, row_of_slot;
};

// Each move of rows on CUDA against the same on the CPU.
void check_moves(DType dtype, std::int64_t num_tokens, int top_k, std::int64_t hidden,
                 Devices& devices) {
  const Shape of_tokens{num_tokens, hidden};
  const Shape of_rows{num_tokens * top_k, hidden};
  const auto random = [&](const Shape& shape, const char* name) {
    return devices.rounded(random_tensor(shape, name, devices.cpu), dtype);
  };
  const Tensor ids =
      tensor_of(random_ids(num_tokens * top_k, 6), Shape{num_tokens, top_k}, devices.cpu);
  const Sorted sorted(ids, 6, devices.cpu);
  const Tensor slot_of_row = devices.to_cuda(sorted.slot_of_row);
  const Tensor row_of_slot = devices.to_cuda(sorted.row_of_slot);
  const Tensor x = random(of_tokens, "x");
  const Tensor rows = random(of_rows, "rows");
  const Tensor gates = random_tensor(Shape{num_tokens, top_k}, "gates", devices.cpu);
  const Tensor x_there = devices.to_cuda(x, dtype);
  const Tensor rows_there = devices.to_cuda(rows, dtype);
  const Tensor gates_there = devices.to_cuda(gates);

  Tensor want_rows = Tensor::empty(of_rows, DType::kFloat32, devices.cpu);
  Tensor found_rows = devices.empty(of_rows, dtype);
  permute_forward(x, sorted.slot_of_row, top_k, want_rows, devices.cpu);
  permute_forward(x_there, slot_of_row, top_k, found_rows, devices.cuda);
  CHECK(bytes_of(devices.to_cpu(found_rows)) == bytes_of(want_rows));

  for (const bool accumulate : {false, true}) {
    Tensor want = random(of_tokens, "dx");
    Tensor found = devices.to_cuda(want, dtype);
    permute_backward(rows, sorted.row_of_slot, want, accumulate, devices.cpu);
    permute_backward(rows_there, row_of_slot, found, accumulate, devices.cuda);
    CHECK(largest_error(found, want, devices) < tolerance(dtype));
  }

  Tensor want = random(of_tokens, "y");
  Tensor found = devices.to_cuda(want, dtype);
  combine_forward(rows, sorted.row_of_slot, gates, want, devices.cpu);
  combine_forward(rows_there, row_of_slot, gates_there, found, devices.cuda);
  CHECK(largest_error(found, want, devices) < tolerance(dtype));

  Tensor want_gates = Tensor::empty(gates.shape(), DType::kFloat32, devices.cpu);
  Tensor found_gates = devices.empty(gates.shape(), DType::kFloat32);
  combine_backward(x, rows, sorted.row_of_slot, gates, want_rows, want_gates, devices.cpu);
  combine_backward(x_there, rows_there, row_of_slot, gates_there, found_rows, found_gates,
                   devices.cuda);
  CHECK(largest_error(found_rows, want_rows, devices) < tolerance(dtype));
  CHECK(largest_error(found_gates, want_gates, devices) < 1e-5);
}

}  // namespace

TEST_CASE("Slots sorted on CUDA are in the places that the CPU gives them") {
  Devices devices;
  // Below, at and beyond a warp's and a tile's slots; more tiles than a warp has lanes.
  for (const std::int64_t num_slots : {0, 1, 31, 256, 2048, 2055, 70001}) {
    for (const std::int64_t num_experts : {1, 5, 513, 1024}) {
      INFO(num_slots << " slots, " << num_experts << " experts");
      const Tensor ids = tensor_of(random_ids(num_slots, static_cast<std::uint64_t>(num_experts)),
                                   Shape{num_slots, 1}, devices.cpu);
      const Sorted want(ids, num_experts, devices.cpu);
      const Sorted found(devices.to_cuda(ids), num_experts, devices.cuda);
      CHECK(bytes_of(devices.to_cpu(found.counts)) == bytes_of(want.counts));
      CHECK(bytes_of(devices.to_cpu(found.slot_of_row)) == bytes_of(want.slot_of_row));
      CHECK(bytes_of(devices.to_cpu(found.row_of_slot)) == bytes_of(want.row_of_slot));
    }
  }
}

TEST_CASE("Slots of few experts keep their order on CUDA, and an id outside is the last expert") {
  Devices devices;
  const Tensor ids = tensor_of<std::int32_t>({2, 0, 2, -7, 0, 3, 2, 1}, Shape{4, 2}, devices.cpu);
  const Sorted found(devices.to_cuda(ids), 3, devices.cuda);
  CHECK(vector_of<std::int64_t>(devices.to_cpu(found.counts)) ==
        std::vector<std::int64_t>{2, 1, 5});
  CHECK(vector_of<std::int32_t>(devices.to_cpu(found.slot_of_row)) ==
        std::vector<std::int32_t>{1, 4, 7, 0, 2, 3, 5, 6});
  CHECK(vector_of<std::int32_t>(devices.to_cpu(found.row_of_slot)) ==
        std::vector<std::int32_t>{3, 0, 4, 5, 1, 6, 7, 2});
}

TEST_CASE("Rows permuted, combined and taken back on CUDA are those of the CPU") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  for (const std::int64_t num_tokens : {0, 1, 19}) {
    for (const int top_k : {1, 8}) {
      for (const std::int64_t hidden : {1, 45, 264, 1032}) {
        INFO(num_tokens << " tokens, top " << top_k << ", hidden size " << hidden);
        check_moves(dtype, num_tokens, top_k, hidden, devices);
      }
    }
  }
}

TEST_CASE("Rows gathered on CUDA are copies, those of an index outside are NaN") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t hidden = GENERATE(3, 1032);
  const Tensor source =
      devices.rounded(random_tensor(Shape{5, hidden}, "source", devices.cpu), dtype);
  const Tensor index = tensor_of<std::int32_t>({3, 4, 0, 3, -1}, Shape{5}, devices.cpu);
  Tensor found = devices.empty(Shape{5, hidden}, dtype);
  const Tensor first_rows = devices.to_cuda(source, dtype).narrow(0, 4);
  gather_rows(first_rows, devices.to_cuda(index), found, devices.cuda);
  const Tensor here = devices.to_cpu(found);
  for (std::int64_t i = 0; i < hidden; ++i) {
    const auto at = [&](std::int64_t row) { return here.data<float>()[row * hidden + i]; };
    CHECK(at(0) == source.data<float>()[3 * hidden + i]);
    CHECK(at(2) == source.data<float>()[i]);
    CHECK(at(3) == at(0));
    CHECK(std::isnan(at(1)));
    CHECK(std::isnan(at(4)));
  }
}

TEST_CASE("The gradients of a combination on CUDA have the same bits at any address") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t hidden = GENERATE(24, 520, 1100);
  constexpr std::int64_t kTokens = 9;
  constexpr int kTopK = 2;
  const auto random = [&](const Shape& shape, const char* name) {
    return devices.rounded(random_tensor(shape, name, devices.cpu), dtype);
  };
  const Tensor dy = random(Shape{kTokens, hidden}, "dy");
  const Tensor rows = random(Shape{kTokens * kTopK, hidden}, "rows");
  const Tensor gates = devices.to_cuda(random_tensor(Shape{kTokens, kTopK}, "gates", devices.cpu));
  std::vector<std::int32_t> places(kTokens * kTopK);
  std::iota(places.rbegin(), places.rend(), 0);
  const Tensor row_of_slot =
      devices.to_cuda(tensor_of(places, Shape{kTokens * kTopK}, devices.cpu));
  const auto gradients = [&](const Tensor& dy_there, const Tensor& rows_there) {
    Tensor d_rows = devices.empty(rows.shape(), dtype);
    Tensor d_gates = devices.empty(gates.shape(), DType::kFloat32);
    combine_backward(dy_there, rows_there, row_of_slot, gates, d_rows, d_gates, devices.cuda);
    return std::pair{vector_of(devices.to_cpu(d_rows)), vector_of(devices.to_cpu(d_gates))};
  };
  CHECK(gradients(devices.to_cuda_misaligned(dy, dtype), devices.to_cuda_misaligned(rows, dtype)) ==
        gradients(devices.to_cuda(dy, dtype), devices.to_cuda(rows, dtype)));
}

}  // namespace fathom::kernels
