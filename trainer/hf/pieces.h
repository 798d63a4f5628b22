#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "trainer/checkpoint/manifest.h"
#include "trainer/hf/published_tensors.h"

namespace fathom::trainer {

// Float32 elements that a conversion holds at a time: 64 MiB, whatever the size of a tensor.
inline constexpr std::int64_t kPieceElements = std::int64_t{16} << 20;

// Whole rows of a tensor, or a part of the only row.
struct Piece {
  std::size_t tensor = 0;  // index in the list
  Rectangle where;
};

// A tensor of `shape` in pieces of at most `max_elements`, in order; each begins at a multiple of
// 128 rows, which a piece of a matrix has at least, and they are its blocks of scales.
std::vector<Rectangle> cut_into_pieces(const Shape& shape, std::int64_t max_elements);

// The pieces of all tensors but copies that are rank `rank`'s: consecutive ones, so that the ranks
// have about equally many elements.
std::vector<Piece> pieces_of_rank(std::span<const PublishedTensor> tensors,
                                  std::int64_t max_elements, int rank, int num_ranks);

}  // namespace fathom::trainer
