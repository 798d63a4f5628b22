#include "trainer/hf/pieces.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "trainer/hf/block_scale.h"

namespace fathom::trainer {

std::vector<Rectangle> cut_into_pieces(const Shape& shape, std::int64_t max_elements) {
  const Rectangle whole = whole_of(shape);
  std::vector<Rectangle> pieces;
  if (whole.num_rows == 1) {
    for (std::int64_t begin = 0; begin < whole.num_columns; begin += max_elements) {
      pieces.push_back({.row_begin = 0,
                        .num_rows = 1,
                        .column_begin = begin,
                        .num_columns = std::min(max_elements, whole.num_columns - begin)});
    }
    return pieces;
  }
  const std::int64_t blocks = max_elements / (whole.num_columns * kScaleBlock);
  const std::int64_t rows = std::max<std::int64_t>(1, blocks) * kScaleBlock;
  for (std::int64_t begin = 0; begin < whole.num_rows; begin += rows) {
    pieces.push_back({.row_begin = begin,
                      .num_rows = std::min(rows, whole.num_rows - begin),
                      .column_begin = 0,
                      .num_columns = whole.num_columns});
  }
  return pieces;
}

std::vector<Piece> pieces_of_rank(std::span<const PublishedTensor> tensors,
                                  std::int64_t max_elements, int rank, int num_ranks) {
  std::int64_t total = 0;
  for (const PublishedTensor& tensor : tensors) {
    total += tensor.copy_of.empty() ? tensor.shape.numel() : 0;
  }
  // A piece belongs to the rank in whose share its first element lies.
  const std::int64_t share = std::max<std::int64_t>(1, (total + num_ranks - 1) / num_ranks);
  std::vector<Piece> pieces;
  std::int64_t position = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!tensors[i].copy_of.empty()) {
      continue;
    }
    for (const Rectangle& where : cut_into_pieces(tensors[i].shape, max_elements)) {
      if (position / share == rank) {
        pieces.push_back({.tensor = i, .where = where});
      }
      position += where.numel();
    }
  }
  return pieces;
}

std::optional<std::string> find_not_finite(const Rectangle& where, std::span<const float> values) {
  const auto wrong = std::find_if_not(values.begin(), values.end(),
                                      [](float value) { return std::isfinite(value); });
  if (wrong == values.end()) {
    return std::nullopt;
  }
  const std::int64_t index = wrong - values.begin();
  return concat("the value in row ", where.row_begin + index / where.num_columns, ", column ",
                where.column_begin + index % where.num_columns, " is ", *wrong);
}

}  // namespace fathom::trainer
