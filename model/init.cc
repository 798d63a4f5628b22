#include "model/init.h"

#include "core/rng.h"
#include "kernels/elementwise.h"
#include "kernels/fill_normal.h"

namespace fathom::model {
namespace {

void fill_normal(const parallel::Piece& piece, std::uint64_t seed, float std, const Tensor& value,
                 Stream& stream) {
  const std::int64_t row_size = piece.global_shape[-1];
  Tensor part = value.view_elements(piece.local_offset, Shape{piece.num_rows, piece.num_columns});
  kernels::fill_normal(
      {.random = RandomSource(seed, "initial value of " + piece.key),
       .first = static_cast<std::uint64_t>(piece.row_begin * row_size + piece.column_begin),
       .row_stride = static_cast<std::uint64_t>(row_size),
       .deviation = std},
      part, stream);
}

}  // namespace

void initialize(parallel::Parameter& parameter, std::uint64_t seed, float std, Stream& stream) {
  if (parameter.initial_value == parallel::InitialValue::kOnes) {
    kernels::fill(parameter.value(), 1.0F, stream);
    return;
  }
  for (const parallel::Piece& piece : parameter.pieces) {
    fill_normal(piece, seed, std, parameter.value(), stream);
  }
}

}  // namespace fathom::model
