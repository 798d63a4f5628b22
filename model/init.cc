#include "model/init.h"

#include <algorithm>
#include <span>
#include <vector>

#include "core/host_copy.h"
#include "core/rng.h"
#include "kernels/elementwise.h"

namespace fathom::model {
namespace {

// Elements that are drawn before they go to the device: what bounds the host's memory.
constexpr std::int64_t kDrawnAtOnce = std::int64_t{1} << 20;

// Rounds the numbers to the dtype of `to`.
void write(std::span<const float> numbers, Tensor to, Stream& stream) {
  if (to.dtype() == DType::kFloat32) {
    from_host(numbers, to, stream);
    return;
  }
  const std::vector<BFloat16> rounded(numbers.begin(), numbers.end());
  from_host<BFloat16>(rounded, to, stream);
}

// Rows of a piece, drawn into `out`.
void draw_rows(const parallel::Piece& piece, std::int64_t first_row, const RandomSource& source,
               float std, std::span<float> out, Stream& stream) {
  const std::int64_t row_size = piece.global_shape[-1];
  const std::int64_t num_rows = std::ssize(out) / piece.num_columns;
  stream.parallel_for(num_rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      float* const numbers = out.data() + row * piece.num_columns;
      const std::int64_t first =
          (piece.row_begin + first_row + row) * row_size + piece.column_begin;
      for (std::int64_t column = 0; column < piece.num_columns; ++column) {
        numbers[column] = std * source.normal(static_cast<std::uint64_t>(first + column));
      }
    }
  });
}

void fill_normal(const parallel::Piece& piece, std::uint64_t seed, float std, const Tensor& value,
                 Stream& stream) {
  const RandomSource source(seed, "initial value of " + piece.key);
  const std::int64_t rows_at_once = std::max<std::int64_t>(1, kDrawnAtOnce / piece.num_columns);
  std::vector<float> drawn;
  for (std::int64_t row = 0; row < piece.num_rows; row += rows_at_once) {
    const std::int64_t count = std::min(rows_at_once, piece.num_rows - row) * piece.num_columns;
    drawn.resize(static_cast<std::size_t>(count));
    draw_rows(piece, row, source, std, drawn, stream);
    write(drawn, value.view_elements(piece.local_offset + row * piece.num_columns, Shape{count}),
          stream);
  }
}

}  // namespace

void initialize(parallel::Parameter& parameter, std::uint64_t seed, float std, Stream& stream) {
  if (parameter.initial_value != parallel::InitialValue::kNormal) {
    kernels::fill(parameter.value(),
                  parameter.initial_value == parallel::InitialValue::kOnes ? 1.0F : 0.0F, stream);
    return;
  }
  if (stream.is_meta()) {
    return;
  }
  for (const parallel::Piece& piece : parameter.pieces) {
    fill_normal(piece, seed, std, parameter.value(), stream);
  }
}

}  // namespace fathom::model
