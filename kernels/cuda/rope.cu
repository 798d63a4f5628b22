#include <limits>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/rope.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

// A matrix whose columns turn.
template <class T>
struct Rows {
  T* data;
  std::int64_t stride;
};

struct Angles {
  const float* cos_sin;
  const std::int32_t* positions;
  std::int64_t max_position;
  float sign;  // of the sines
};

// One thread turns N neighbours, N / 2 pairs, of one head, by accesses of kPiece elements. Reads
// before it writes: both matrices may be one.
template <class T, int N, int kPiece>
__global__ void __launch_bounds__(RowShare::kThreads)
    turn(RowShare share, RopeColumns columns, Angles angles, Rows<const T> source,
         Rows<T> destination) {
  const int items_per_head = columns.rope_size / N;
  share.for_each([=](std::int64_t token, std::int64_t item) {
    const int head = static_cast<int>(item) / items_per_head;
    const int within = static_cast<int>(item) % items_per_head * N;
    const std::int64_t column =
        columns.first_column + std::int64_t{head} * columns.head_stride + within;
    const std::int64_t position = angles.positions[token];
    float x[N];
    float turned[N];
    float cos_sin[N];
    load_pieces<kPiece>(source.data + token * source.stride + column, x);
    const bool is_known = position >= 0 && position < angles.max_position;
    load_pieces<(kPiece < kPackSize<float> ? kPiece : kPackSize<float>)>(
        angles.cos_sin + (is_known ? position : 0) * columns.rope_size + within, cos_sin);
#pragma unroll
    for (int i = 0; i < N; i += 2) {
      const float cosine = is_known ? cos_sin[i] : std::numeric_limits<float>::quiet_NaN();
      const float sine = angles.sign * cos_sin[i + 1];
      // Each rounded, as on the CPU: no fused multiply-add.
      turned[i] = __fsub_rn(__fmul_rn(x[i], cosine), __fmul_rn(x[i + 1], sine));
      turned[i + 1] = __fadd_rn(__fmul_rn(x[i + 1], cosine), __fmul_rn(x[i], sine));
    }
    store_pieces<kPiece>(turned, destination.data + token * destination.stride + column);
  });
}

template <class T, int N, int kPiece>
void launch_turn(const RopeColumns& columns, const Angles& angles, const Tensor& source,
                 Tensor& destination, Stream& stream) {
  const RowShare share =
      RowShare::of(source.size(0), std::int64_t{columns.num_heads} * (columns.rope_size / N));
  launch(turn<T, N, kPiece>, {share.num_blocks(), RowShare::kThreads}, stream, share, columns,
         angles, Rows<const T>{device_data<T>(source), source.size(1)},
         Rows<T>{device_data<T>(destination), destination.size(1)});
}

void rope_cuda(const RopeColumns& columns, RopeDirection direction, const Tensor& cos_sin,
               const Tensor& positions, const Tensor& source, Tensor& destination, Stream& stream) {
  if (columns.num_heads == 0 || columns.rope_size == 0) {
    return;
  }
  const Angles angles{device_data<float>(cos_sin), device_data<std::int32_t>(positions),
                      cos_sin.size(0), direction == RopeDirection::kForward ? 1.0F : -1.0F};
  with_activation_type(source.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kPack = kPackSize<T>;
    const std::int64_t widths = source.size(1) | destination.size(1) | columns.first_column |
                                columns.head_stride | columns.rope_size;
    if (fits_packs<T>(widths, {source.raw(), destination.raw(), cos_sin.raw()})) {
      launch_turn<T, kPack, kPack>(columns, angles, source, destination, stream);
    } else {
      launch_turn<T, 2, 1>(columns, angles, source, destination, stream);
    }
  });
}

const KernelRegistration register_rope(rope_slot, DeviceType::kCuda, rope_cuda);

}  // namespace
}  // namespace fathom::kernels
