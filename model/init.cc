#include "model/init.h"

#include "core/rng.h"
#include "kernels/elementwise.h"

namespace fathom::model {
namespace {

void fill_normal(const parallel::Piece& piece, std::uint64_t seed, float std, float* values,
                 Stream& stream) {
  const RandomSource source(seed, "initial value of " + piece.key);
  const std::int64_t row_size = piece.global_shape[-1];
  stream.parallel_for(piece.num_rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      float* const out = values + row * piece.num_columns;
      const std::int64_t first = (piece.row_begin + row) * row_size + piece.column_begin;
      for (std::int64_t column = 0; column < piece.num_columns; ++column) {
        out[column] = std * source.normal(static_cast<std::uint64_t>(first + column));
      }
    }
  });
}

}  // namespace

void initialize(parallel::Parameter& parameter, std::uint64_t seed, float std, Stream& stream) {
  if (parameter.initial_value != parallel::InitialValue::kNormal) {
    kernels::fill(parameter.value,
                  parameter.initial_value == parallel::InitialValue::kOnes ? 1.0F : 0.0F, stream);
    return;
  }
  if (stream.is_meta()) {
    return;
  }
  for (const parallel::Piece& piece : parameter.pieces) {
    fill_normal(piece, seed, std, parameter.value.mutable_data<float>() + piece.local_offset,
                stream);
  }
}

}  // namespace fathom::model
