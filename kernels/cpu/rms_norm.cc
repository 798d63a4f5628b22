#include "kernels/rms_norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/contribution.h"
#include "kernels/cpu/rows.h"

namespace fathom::kernels {
namespace {

using simd::Floats;

constexpr std::int64_t kGrainElements = 16384;

std::int64_t row_grain(std::int64_t hidden) { return 1 + kGrainElements / (hidden + 1); }

// The rows of a matrix.
template <class T>
struct Rows {
  T* data;
  std::int64_t stride;

  T* row(std::int64_t token) const { return data + token * stride; }
};
Rows<const float> rows_of(const Tensor& tensor) { return {tensor.data<float>(), tensor.size(1)}; }
Rows<float> rows_of(Tensor& tensor) { return {tensor.mutable_data<float>(), tensor.size(1)}; }

// Calls body(token) for all tokens.
template <class Body>
void for_each_token(std::int64_t num_tokens, std::int64_t hidden, Stream& stream,
                    const Body& body) {
  stream.parallel_for(num_tokens, row_grain(hidden), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      body(token);
    }
  });
}

// to += x
void add_row(const float* x, std::int64_t hidden, float* to) {
  simd::for_each_block(hidden, [=](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
    simd::store(simd::load(to + i, extent) + simd::load(x + i, extent), to + i, extent);
  });
}

struct Gain {
  const float* values;
  std::int64_t hidden;
};

// Writes the norm of a row and returns 1 / rms.
float norm_row(const float* in, const Gain& gain, float eps, float* out) {
  const float mean = simd::row_dot(in, in, gain.hidden) / static_cast<float>(gain.hidden);
  const float inverse = 1.0F / std::sqrt(mean + eps);
  const Floats factor = simd::broadcast(inverse);
  const float* gains = gain.values;
  simd::for_each_block(gain.hidden, [=](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
    simd::store(simd::load(in + i, extent) * factor * simd::load(gains + i, extent), out + i,
                extent);
  });
  return inverse;
}

void backward_row(const float* gradient, const float* in, const Gain& gain, float inv_rms,
                  float* out) {
  const float* gains = gain.values;
  const Floats inverse = simd::broadcast(inv_rms);
  Floats total = simd::zero();
  simd::for_each_block(gain.hidden, [&](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
    const Floats scaled = simd::load(gradient + i, extent) * simd::load(gains + i, extent);
    total = simd::fma(scaled, simd::load(in + i, extent) * inverse, total);
  });
  const Floats mean = simd::broadcast(simd::sum(total) / static_cast<float>(gain.hidden));
  simd::for_each_block(gain.hidden, [=](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
    const Floats scaled = simd::load(gradient + i, extent) * simd::load(gains + i, extent);
    const Floats normalized = simd::load(in + i, extent) * inverse;
    simd::store(inverse * simd::fnma(normalized, mean, scaled), out + i, extent);
  });
}

void rms_norm_forward_cpu(const Tensor& x, const Tensor& gain, float eps, Tensor& y,
                          Tensor& inv_rms, Stream& stream) {
  const Gain gains{gain.data<float>(), gain.size(0)};
  const Rows inputs = rows_of(x);
  const Rows outputs = rows_of(y);
  auto* inverses = inv_rms.mutable_data<float>();
  for_each_token(x.size(0), gains.hidden, stream, [=](std::int64_t token) {
    inverses[token] = norm_row(inputs.row(token), gains, eps, outputs.row(token));
  });
}

// A row that was just written is read while it is in the cache.
void add_rms_norm_forward_cpu(const Tensor& x, Tensor& h, const Tensor& gain, float eps, Tensor& y,
                              Tensor& inv_rms, Stream& stream) {
  const Gain gains{gain.data<float>(), gain.size(0)};
  const Rows inputs = rows_of(x);
  const Rows sums = rows_of(h);
  const Rows outputs = rows_of(y);
  auto* inverses = inv_rms.mutable_data<float>();
  for_each_token(x.size(0), gains.hidden, stream, [=](std::int64_t token) {
    add_row(inputs.row(token), gains.hidden, sums.row(token));
    inverses[token] = norm_row(sums.row(token), gains, eps, outputs.row(token));
  });
}

// The sums over tokens of up to kTileBlocks blocks of columns stay in registers.
constexpr int kTileBlocks = 4;
constexpr std::int64_t kTile = kTileBlocks * simd::kLanes;

// The tokens of one contribution.
struct GainRows {
  const float* dy;
  const float* x;
  const float* inv_rms;
  std::int64_t dy_stride;
  std::int64_t x_stride;
  std::int64_t num_tokens;
};

void add_gain_tile(const GainRows& rows, std::int64_t first, cpu::ContributionSink& sink) {
  Floats total[kTileBlocks] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
  for (std::int64_t token = 0; token < rows.num_tokens; ++token) {
    const float* gradient = rows.dy + token * rows.dy_stride + first;
    const float* in = rows.x + token * rows.x_stride + first;
    const Floats inverse = simd::broadcast(rows.inv_rms[token]);
    for (int b = 0; b < kTileBlocks; ++b) {
      total[b] = simd::fma(simd::load(gradient + b * simd::kLanes),
                           simd::load(in + b * simd::kLanes) * inverse, total[b]);
    }
  }
  for (int b = 0; b < kTileBlocks; ++b) {
    sink.add(total[b], first + b * simd::kLanes, simd::WholeBlock{});
  }
}

template <class Extent>
void add_gain_block(const GainRows& rows, std::int64_t first, Extent extent,
                    cpu::ContributionSink& sink) {
  Floats total = simd::zero();
  for (std::int64_t token = 0; token < rows.num_tokens; ++token) {
    const Floats in = simd::load(rows.x + token * rows.x_stride + first, extent);
    total = simd::fma(simd::load(rows.dy + token * rows.dy_stride + first, extent),
                      in * simd::broadcast(rows.inv_rms[token]), total);
  }
  sink.add(total, first, extent);
}

// Columns [first, last) of one contribution.
void add_gain(const GainRows& rows, std::int64_t first, std::int64_t last,
              cpu::ContributionSink& sink) {
  for (; first + kTile <= last; first += kTile) {
    add_gain_tile(rows, first, sink);
  }
  simd::for_each_block(last - first, [&](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
    add_gain_block(rows, first + i, extent, sink);
  });
}

// Threads split columns: each contribution is a sum over its tokens in their order.
void add_gains(const Tensor& dy, const RmsNormInputs& norm, GradientSum& gain_grad,
               Stream& stream) {
  const Rows gradients = rows_of(dy);
  const Rows inputs = rows_of(norm.x);
  const float* inverses = norm.inv_rms.data<float>();
  const std::int64_t hidden = gain_grad.sum.size(0);
  const std::int64_t num_tokens = dy.size(0);
  const std::int64_t unit = gain_grad.unit_rows > 0 ? gain_grad.unit_rows : num_tokens;
  const std::int64_t grain = 1 + kGrainElements / ((num_tokens + 1) * kTile);
  stream.parallel_for(
      (hidden + kTile - 1) / kTile, grain, [&](std::int64_t begin, std::int64_t end) {
        cpu::ContributionSink sink(gain_grad);
        const std::int64_t first = begin * kTile;
        const std::int64_t last = std::min(end * kTile, hidden);
        sink.begin(first, last - first);
        for (std::int64_t token = 0; token < num_tokens; token += unit) {
          const GainRows rows{gradients.row(token), inputs.row(token), inverses + token,
                              gradients.stride,     inputs.stride,     unit};
          add_gain(rows, first, last, sink);
        }
      });
}

// The gain's sums first: dx may lie where dy does. `dh` is null, or what is added to the gradient
// through the norm, row by row while it is in the cache.
void rms_norm_backward_cpu(const Tensor& dy, const RmsNormInputs& norm, const Tensor* dh,
                           Tensor& dx, GradientSum& gain_grad, Stream& stream) {
  add_gains(dy, norm, gain_grad, stream);
  const Gain gains{norm.gain.data<float>(), norm.gain.size(0)};
  const Rows gradients = rows_of(dy);
  const Rows inputs = rows_of(norm.x);
  const Rows<const float> added = dh != nullptr ? rows_of(*dh) : Rows<const float>{nullptr, 0};
  const Rows outputs = rows_of(dx);
  const float* inverses = norm.inv_rms.data<float>();
  for_each_token(dy.size(0), gains.hidden, stream, [=](std::int64_t token) {
    backward_row(gradients.row(token), inputs.row(token), gains, inverses[token],
                 outputs.row(token));
    if (dh != nullptr) {
      add_row(added.row(token), gains.hidden, outputs.row(token));
    }
  });
}

const KernelRegistration register_forward(rms_norm_forward_slot, DeviceType::kCpu,
                                          rms_norm_forward_cpu);
const KernelRegistration register_add_forward(add_rms_norm_forward_slot, DeviceType::kCpu,
                                              add_rms_norm_forward_cpu);
const KernelRegistration register_backward(rms_norm_backward_slot, DeviceType::kCpu,
                                           rms_norm_backward_cpu);

}  // namespace
}  // namespace fathom::kernels
