#include "kernels/rope.h"

#include <algorithm>

#include "kernels/cpu/simd.h"

namespace fathom::kernels {
namespace {

namespace hn = simd::hn;

constexpr std::int64_t kGrainElements = 16384;

// `count` columns of to = from rotated by the angles of cos_sin, whose sines get the signs of
// `signs` (in pairs). Every lane is one product, another product and their sum, each rounded:
// written for vectors at the end of a row too, since g++ 12 contracts the scalar form to vfmaddsub
// whatever -ffp-contract says.
template <class Signs>
void rotate_vector(const float* from, const float* cos_sin, Signs signs, std::size_t count,
                   float* to) {
  const simd::Tag d;
  const auto there = hn::FirstN(d, count);
  const auto x = hn::MaskedLoad(there, d, from);
  const auto angles = hn::MaskedLoad(there, d, cos_sin);
  const auto direct = hn::Mul(x, hn::DupEven(angles));
  const auto crossed = hn::Mul(hn::Reverse2(d, x), hn::Mul(hn::DupOdd(angles), signs));
  hn::BlendedStore(hn::Add(direct, crossed), there, d, to);
}

void rotate(const float* from, const float* cos_sin, std::int64_t rope_size, float sign,
            float* to) {
  const simd::Tag d;
  // Even lanes -sign, odd lanes sign.
  const auto signs = hn::OddEven(hn::Set(d, sign), hn::Set(d, -sign));
  for (std::int64_t i = 0; i < rope_size; i += simd::kVectorLanes) {
    const auto count =
        static_cast<std::size_t>(std::min<std::int64_t>(simd::kVectorLanes, rope_size - i));
    rotate_vector(from + i, cos_sin + i, signs, count, to + i);
  }
}

std::int64_t checked_position(std::int64_t position, std::int64_t token,
                              std::int64_t max_position) {
  FATHOM_CHECK(position >= 0 && position < max_position, "token ", token, " at position ", position,
               ", table of ", max_position);
  return position;
}

void rope_cpu(const RopeColumns& columns, RopeDirection direction, const Tensor& cos_sin,
              const Tensor& positions, const Tensor& source, Tensor& destination, Stream& stream) {
  const std::int64_t max_position = cos_sin.size(0);
  const std::int64_t rope_size = columns.rope_size;
  const std::int64_t source_stride = source.size(1);
  const std::int64_t destination_stride = destination.size(1);
  const float* table = cos_sin.data<float>();
  const auto* position_of = positions.data<std::int32_t>();
  const float* from = source.data<float>();
  float* to = destination.mutable_data<float>();
  const float sign = direction == RopeDirection::kForward ? 1.0F : -1.0F;
  const std::int64_t grain = 1 + kGrainElements / (columns.num_heads * rope_size + 1);
  stream.parallel_for(positions.size(0), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      const std::int64_t position = checked_position(position_of[token], token, max_position);
      for (std::int64_t head = 0; head < columns.num_heads; ++head) {
        const std::int64_t column = columns.first_column + head * columns.head_stride;
        rotate(from + token * source_stride + column, table + position * rope_size, rope_size, sign,
               to + token * destination_stride + column);
      }
    }
  });
}

const KernelRegistration register_rope(rope_slot, DeviceType::kCpu, rope_cpu);

}  // namespace
}  // namespace fathom::kernels
