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

void rms_norm_forward_cpu(const Tensor& x, const Tensor& gain, float eps, Tensor& y,
                          Tensor& inv_rms, Stream& stream) {
  const std::int64_t hidden = gain.size(0);
  const std::int64_t x_stride = x.size(1);
  const std::int64_t y_stride = y.size(1);
  const float* inputs = x.data<float>();
  const float* gains = gain.data<float>();
  auto* outputs = y.mutable_data<float>();
  auto* inverses = inv_rms.mutable_data<float>();
  const auto size = static_cast<float>(hidden);
  stream.parallel_for(x.size(0), row_grain(hidden), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      const float* in = inputs + token * x_stride;
      float* out = outputs + token * y_stride;
      const float inverse = 1.0F / std::sqrt(simd::row_dot(in, in, hidden) / size + eps);
      inverses[token] = inverse;
      const Floats factor = simd::broadcast(inverse);
      simd::for_each_block(hidden, [=](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
        simd::store(simd::load(in + i, extent) * factor * simd::load(gains + i, extent), out + i,
                    extent);
      });
    }
  });
}

void rms_norm_backward_input_cpu(const Tensor& dy, const Tensor& x, const Tensor& gain,
                                 const Tensor& inv_rms, Tensor& dx, Stream& stream) {
  const std::int64_t hidden = gain.size(0);
  const std::int64_t dy_stride = dy.size(1);
  const std::int64_t x_stride = x.size(1);
  const std::int64_t dx_stride = dx.size(1);
  const float* gradients = dy.data<float>();
  const float* inputs = x.data<float>();
  const float* gains = gain.data<float>();
  const float* inverses = inv_rms.data<float>();
  auto* outputs = dx.mutable_data<float>();
  const auto size = static_cast<float>(hidden);
  stream.parallel_for(x.size(0), row_grain(hidden), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      const float* in = inputs + token * x_stride;
      const float* gradient = gradients + token * dy_stride;
      float* out = outputs + token * dx_stride;
      const Floats inverse = simd::broadcast(inverses[token]);
      Floats total = simd::zero();
      simd::for_each_block(hidden, [&](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
        const Floats scaled = simd::load(gradient + i, extent) * simd::load(gains + i, extent);
        total = simd::fma(scaled, simd::load(in + i, extent) * inverse, total);
      });
      const Floats mean = simd::broadcast(simd::sum(total) / size);
      simd::for_each_block(hidden, [=](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
        const Floats scaled = simd::load(gradient + i, extent) * simd::load(gains + i, extent);
        const Floats normalized = simd::load(in + i, extent) * inverse;
        simd::store(inverse * simd::fnma(normalized, mean, scaled), out + i, extent);
      });
    }
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
void rms_norm_backward_gain_cpu(const Tensor& dy, const Tensor& x, const Tensor& inv_rms,
                                GradientSum& gain_grad, Stream& stream) {
  const std::int64_t hidden = gain_grad.sum.size(0);
  const std::int64_t num_tokens = x.size(0);
  const std::int64_t unit = gain_grad.unit_rows > 0 ? gain_grad.unit_rows : num_tokens;
  const std::int64_t grain = 1 + kGrainElements / ((num_tokens + 1) * kTile);
  stream.parallel_for((hidden + kTile - 1) / kTile, grain,
                      [&](std::int64_t begin, std::int64_t end) {
                        cpu::ContributionSink sink(gain_grad);
                        for (std::int64_t token = 0; token < num_tokens; token += unit) {
                          const GainRows rows{dy.data<float>() + token * dy.size(1),
                                              x.data<float>() + token * x.size(1),
                                              inv_rms.data<float>() + token,
                                              dy.size(1),
                                              x.size(1),
                                              unit};
                          add_gain(rows, begin * kTile, std::min(end * kTile, hidden), sink);
                        }
                      });
}

const KernelRegistration register_forward(rms_norm_forward_slot, DeviceType::kCpu,
                                          rms_norm_forward_cpu);
const KernelRegistration register_backward_input(rms_norm_backward_input_slot, DeviceType::kCpu,
                                                 rms_norm_backward_input_cpu);
const KernelRegistration register_backward_gain(rms_norm_backward_gain_slot, DeviceType::kCpu,
                                                rms_norm_backward_gain_cpu);

}  // namespace
}  // namespace fathom::kernels
