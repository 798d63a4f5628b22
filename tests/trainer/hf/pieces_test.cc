#include "trainer/hf/pieces.h"

#include <map>
#include <vector>

#include "tests/support/catch.h"

using namespace fathom;
using namespace fathom::trainer;

namespace {

std::vector<PublishedTensor> some_tensors() {
  return {{.name = "matrix", .shape = {1000, 300}, .copy_of = ""},
          {.name = "vector", .shape = {100'000}, .copy_of = ""},
          {.name = "copy", .shape = {1000, 300}, .copy_of = "matrix"},
          {.name = "small", .shape = {3, 5}, .copy_of = ""},
          {.name = "row", .shape = {1, 90'000}, .copy_of = ""},
          {.name = "wide", .shape = {400, 5000}, .copy_of = ""}};
}

}  // namespace

TEST_CASE("the pieces of all ranks cover each tensor once, in blocks of scales") {
  const std::vector<PublishedTensor> tensors = some_tensors();
  constexpr std::int64_t kMost = 80'000;
  for (const int ranks : {1, 2, 3, 7, 100}) {
    std::map<std::size_t, std::vector<int>> covered;
    std::vector<std::int64_t> elements;
    for (int rank = 0; rank < ranks; ++rank) {
      elements.push_back(0);
      for (const Piece& piece : pieces_of_rank(tensors, kMost, rank, ranks)) {
        const Shape& shape = tensors[piece.tensor].shape;
        std::vector<int>& times = covered[piece.tensor];
        times.resize(static_cast<std::size_t>(shape.numel()));
        const std::int64_t first = piece.where.row_begin * shape[-1] + piece.where.column_begin;
        for (std::int64_t i = 0; i < piece.where.numel(); ++i) {
          ++times[static_cast<std::size_t>(first + i)];
        }
        elements.back() += piece.where.numel();
        // At most so many elements, or one row of blocks.
        CHECK((piece.where.numel() <= kMost || piece.where.num_rows <= 128));
        CHECK((piece.where.row_begin % 128 == 0 || shape.rank() == 1));
        CHECK((piece.where.num_rows == 1 || piece.where.num_columns == shape[-1]));
      }
    }
    CHECK(covered.size() == 5);
    CHECK(!covered.contains(2));
    for (const auto& [tensor, times] : covered) {
      CHECK(times == std::vector<int>(times.size(), 1));
    }
    if (ranks == 2) {  // 2,490,015 elements in pieces of at most 640,000
      CHECK(std::abs(elements[0] - elements[1]) < 1'280'000);
    }
  }
}
