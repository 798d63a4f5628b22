#include "trainer/state_hash.h"

#include <cstring>
#include <set>
#include <vector>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"
#include "tests/trainer/checkpoint/checkpoint_state.h"

using namespace fathom;
using namespace fathom::test;
using trainer::hash_elements;
using trainer::StateHash;

namespace {

// The hash of FakeState's content, cut over ranks in a way that follows from layout_seed; the same
// on all ranks.
std::uint64_t hash_on_ranks(int num_ranks, std::uint64_t layout_seed, std::uint64_t content) {
  std::vector<std::uint64_t> hashes(static_cast<std::size_t>(num_ranks));
  run_ranks(num_ranks, [&](parallel::Communicator& world, Stream& stream) {
    FakeState state(all_kinds_of_tensors(), num_ranks, world.rank(), layout_seed, stream);
    state.fill(content);
    StateHash hash(stream);
    state.visit(hash);
    hashes[static_cast<std::size_t>(world.rank())] = hash.total(world);
  });
  CHECK(std::set(hashes.begin(), hashes.end()).size() == 1);
  return hashes[0];
}

parallel::StateSlice whole(const std::string& key, const Shape& shape) {
  return {.key = key,
          .global_shape = shape,
          .row_begin = 0,
          .num_rows = shape.rank() == 1 ? 1 : shape[0],
          .column_begin = 0,
          .num_columns = shape[-1]};
}

constexpr std::int64_t kRows = 5, kColumns = 7;

// A [5, 7] tensor, row r and column c holding 7 r + c.
Tensor counting(Stream& stream) {
  Tensor tensor = Tensor::empty(Shape{kRows, kColumns}, DType::kFloat32, stream);
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.mutable_data<float>()[i] = static_cast<float>(i);
  }
  return tensor;
}

const parallel::StateSlice kWhole = whole("model.norm.weight", Shape{kRows, kColumns});

}  // namespace

TEST_CASE("the hash of a state does not depend on how it is cut over ranks") {
  const std::uint64_t expected = hash_on_ranks(1, 0, 3);
  for (const int num_ranks : {1, 2, 3, 5, 8}) {
    for (const std::uint64_t layout : {1, 2, 3}) {
      CAPTURE(num_ranks, layout);
      CHECK(hash_on_ranks(num_ranks, layout, 3) == expected);
    }
  }
  CHECK(hash_on_ranks(2, 1, 4) != expected);
}

TEST_CASE("a hash is for ever: runs of different versions are compared by it") {
  Stream stream;
  const auto hash_of = [&](DType dtype) {
    Tensor tensor = Tensor::empty(Shape{4, 6}, dtype, stream);
    for (std::int64_t i = 0; i < tensor.size_bytes(); ++i) {
      tensor.raw()[i] = static_cast<std::byte>(37 * i + 11);
    }
    return hash_elements({.key = "model.norm.weight",
                          .global_shape = Shape{20, 10},
                          .row_begin = 3,
                          .num_rows = 4,
                          .column_begin = 2,
                          .num_columns = 6},
                         tensor, stream);
  };
  CHECK(hash_of(DType::kBFloat16) == 0x42b4a6d49981cef5U);
  CHECK(hash_of(DType::kFloat32) == 0xb59b36e4ecf0f32eU);
  CHECK(hash_of(DType::kInt64) == 0x190f32bbfdb03957U);
  CHECK(trainer::hash_integer("step", 7) == 0x25c2c47dcf674f63U);
}

TEST_CASE("every change of an element changes the hash") {
  Stream stream;
  const std::uint64_t before = hash_elements(kWhole, counting(stream), stream);
  std::set<std::uint64_t> hashes{before};
  std::size_t num_changes = 1;
  for (std::int64_t i = 0; i < kRows * kColumns; ++i) {
    for (int bit = 0; bit < 32; ++bit, ++num_changes) {
      Tensor changed = counting(stream);
      reinterpret_cast<std::uint32_t*>(changed.raw())[i] ^= std::uint32_t{1} << bit;
      hashes.insert(hash_elements(kWhole, changed, stream));
    }
    for (std::int64_t j = 0; j < i; ++j, ++num_changes) {
      Tensor swapped = counting(stream);
      std::swap(swapped.mutable_data<float>()[i], swapped.mutable_data<float>()[j]);
      hashes.insert(hash_elements(kWhole, swapped, stream));
    }
  }
  CHECK(hashes.size() == num_changes);
}

TEST_CASE("key, shape and dtype are part of the hash") {
  Stream stream;
  const Tensor floats = counting(stream);
  const auto of = [&](const std::string& key, const Shape& shape, DType dtype) {
    Tensor tensor = Tensor::empty(shape, dtype, stream);
    std::memcpy(tensor.raw(), floats.raw(), static_cast<std::size_t>(tensor.size_bytes()));
    return hash_elements(whole(key, shape), tensor, stream);
  };
  CHECK(std::set<std::uint64_t>{of("a", {kRows, kColumns}, DType::kFloat32),
                                of("b", {kRows, kColumns}, DType::kFloat32),
                                of("a", {kColumns, kRows}, DType::kFloat32),
                                of("a", {kRows * kColumns}, DType::kFloat32),
                                of("a", {kRows, kColumns}, DType::kInt32)}
            .size() == 5);
}

TEST_CASE("an element that is missing or counted twice changes the hash, a copy does not") {
  Stream stream;
  const Tensor tensor = counting(stream);
  const auto hash_of = [&](const std::vector<parallel::StateSlice>& slices) {
    std::uint64_t hash = 0;
    run_ranks(1, [&](parallel::Communicator& world, Stream& rank_stream) {
      StateHash visitor(rank_stream);
      for (const parallel::StateSlice& slice : slices) {
        Tensor rows = tensor.narrow(slice.row_begin, slice.row_begin + slice.num_rows);
        visitor.tensor(slice, rows);
      }
      hash = visitor.total(world);
    });
    return hash;
  };
  const auto rows = [&](std::int64_t begin, std::int64_t end) {
    parallel::StateSlice slice = kWhole;
    slice.row_begin = begin;
    slice.num_rows = end - begin;
    return slice;
  };
  parallel::StateSlice copy = rows(3, 5);
  copy.is_owner = false;
  const std::uint64_t once = hash_of({kWhole});
  CHECK(hash_of({rows(2, 5), rows(0, 2)}) == once);
  CHECK(hash_of({rows(0, 5), copy}) == once);
  CHECK(hash_of({rows(0, 3), rows(2, 5)}) != once);
  CHECK(hash_of({rows(0, 3), rows(4, 5)}) != once);
  CHECK(hash_of({rows(0, 3), copy}) != once);
}

TEST_CASE("numbers count once, and ranks that differ in one are told of") {
  const auto hash_of = [](int num_ranks, const std::string& key, std::int64_t value, int skew) {
    std::uint64_t hash = 0;
    run_ranks(num_ranks, [&](parallel::Communicator& world, Stream& stream) {
      StateHash visitor(stream);
      std::int64_t mine = value + world.rank() * skew;
      visitor.integer(key, mine);
      const std::uint64_t total = visitor.total(world);
      if (world.rank() == 0) {
        hash = total;
      }
    });
    return hash;
  };
  const std::uint64_t one = hash_of(1, "step", 7, 0);
  CHECK(hash_of(3, "step", 7, 0) == one);
  CHECK(hash_of(3, "step", 8, 0) != one);
  CHECK(hash_of(3, "steps", 7, 0) != one);
  CHECK_THROWS_AS(hash_of(3, "step", 7, 1), InternalError);
}
