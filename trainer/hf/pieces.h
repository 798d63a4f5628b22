#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trainer/checkpoint/manifest.h"
#include "trainer/hf/published_tensors.h"

namespace fathom::trainer {

// Float32 elements that a conversion holds at a time: 64 MiB, or 128 rows where those are more.
inline constexpr std::int64_t kPieceElements = std::int64_t{16} << 20;

// Whole rows of a tensor, or a part of the only row.
struct Piece {
  std::size_t tensor = 0;  // index in the list
  Rectangle where;
};

// A tensor of `shape` in pieces of about `max_elements`, or of 128 rows where those are more, in
// order. Each piece of a matrix begins at a multiple of 128 rows: whole blocks of scales.
std::vector<Rectangle> cut_into_pieces(const Shape& shape, std::int64_t max_elements);

// The pieces of all tensors but copies that are rank `rank`'s: consecutive ones, so that the ranks
// have about equally many elements.
std::vector<Piece> pieces_of_rank(std::span<const PublishedTensor> tensors,
                                  std::int64_t max_elements, int rank, int num_ranks);

// "the value in row 3, column 5 is nan", of the first that is not finite; nothing where all are.
//   values  of `where`, row by row
std::optional<std::string> find_not_finite(const Rectangle& where, std::span<const float> values);

}  // namespace fathom::trainer
