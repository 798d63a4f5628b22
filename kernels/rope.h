#pragma once

#include <cstdint>
#include <vector>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// Rotary embedding of interleaved pairs (x[2i], x[2i+1]) by the angle position * frequency_i
// (RoFormer, arXiv:2104.09864, eq. 34; interleaved as in the published DeepSeek weights).
struct RopeColumns {  // where the rotated columns lie in a row
  int num_heads = 1;
  int head_stride = 0;   // columns from one head to the next
  int first_column = 0;  // of head 0
  int rope_size = 0;     // even
};
// kInverse is the backward: the transposed rotation.
enum class RopeDirection { kForward, kInverse };

// For every head and pair (a, b) of the rotated columns, the i-th of its head, with (c, s) =
// cos_sin[positions[t], 2i and 2i + 1]:
//   kForward  (a, b) -> (a c - b s, b c + a s)
//   kInverse  (a, b) -> (a c + b s, b c - a s)
//   cos_sin    [max_position, rope_size] float32  per pair (cos, sin), interleaved; see rope_table
//   positions  [num_tokens] int32
//   source, destination  [num_tokens, *] float32, on other devices than the CPU also bfloat16, both
//              alike, with the same columns; only the rotated columns are written. May alias.
// Products and sums in float32, each rounded. Asynchronous on `stream`. Throws InternalError on a
// mismatch or a position outside the table; on CUDA such a position's columns become NaN instead.
void rope(const RopeColumns& columns, RopeDirection direction, const Tensor& cos_sin,
          const Tensor& positions, const Tensor& source, Tensor& destination, Stream& stream);

// YaRN (arXiv:2309.00071, as in DeepSeek-V2/V3): factor 1 is plain RoPE.
struct YarnOptions {
  double factor = 1.0;  // s
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double original_max_position = 4096.0;
};
// The dimension whose wave turns `rotations` times within original_max_position tokens:
//   cd(r) = rope_size * ln(original_max_position / (2 pi r)) / (2 ln theta)
double yarn_correction_dim(int rope_size, double theta, const YarnOptions& yarn, double rotations);
// The rope_size / 2 frequencies in double:
//   f'_i   = f_i (1 - ramp_i) + f_i / s * ramp_i,  f_i = theta^(-2i / rope_size)
//   ramp_i = clamp((i - low) / (high - low), 0, 1)
//   low    = max(floor(cd(beta_fast)), 0)
//   high   = min(ceil(cd(beta_slow)), rope_size - 1), 0.001 more if it equals low
std::vector<double> rope_frequencies(int rope_size, double theta, const YarnOptions& yarn);
// [max_position, rope_size] float32 of (cos, sin) pairs, computed in double on the host and
// rounded once.
Tensor rope_table(const std::vector<double>& frequencies, std::int64_t max_position,
                  Stream& stream);

extern constinit KernelSlot<void(const RopeColumns&, RopeDirection, const Tensor&, const Tensor&,
                                 const Tensor&, Tensor&, Stream&)>
    rope_slot;

}  // namespace fathom::kernels
