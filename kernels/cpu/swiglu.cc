#include "kernels/swiglu.h"

#include "kernels/cpu/simd.h"

namespace fathom::kernels {
namespace {

using simd::Floats;

constexpr std::int64_t kGrainElements = 8192;

std::int64_t row_grain(std::int64_t size) { return 1 + kGrainElements / (size + 1); }

void swiglu_forward_cpu(const Tensor& gate_up, Tensor& y, Stream& stream) {
  const std::int64_t size = y.size(1);
  const float* inputs = gate_up.data<float>();
  auto* outputs = y.mutable_data<float>();
  stream.parallel_for(y.size(0), row_grain(size), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float* gates = inputs + row * 2 * size;
      const float* ups = gates + size;
      float* out = outputs + row * size;
      simd::for_each_block(size, [=](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
        const Floats gate = simd::load(gates + i, extent);
        simd::store(gate * simd::sigmoid(gate) * simd::load(ups + i, extent), out + i, extent);
      });
    }
  });
}

void swiglu_backward_cpu(const Tensor& dy, const Tensor& gate_up, Tensor& d_gate_up,
                         Stream& stream) {
  const std::int64_t size = dy.size(1);
  const float* gradients = dy.data<float>();
  const float* inputs = gate_up.data<float>();
  auto* outputs = d_gate_up.mutable_data<float>();
  stream.parallel_for(dy.size(0), row_grain(size), [=](std::int64_t begin, std::int64_t end) {
    const Floats one = simd::broadcast(1.0F);
    for (std::int64_t row = begin; row < end; ++row) {
      const float* gradient = gradients + row * size;
      const float* gates = inputs + row * 2 * size;
      const float* ups = gates + size;
      float* d_gates = outputs + row * 2 * size;
      float* d_ups = d_gates + size;
      simd::for_each_block(size, [=](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
        const Floats gate = simd::load(gates + i, extent);
        const Floats up = simd::load(ups + i, extent);
        const Floats here = simd::load(gradient + i, extent);
        const Floats sigmoid = simd::sigmoid(gate);
        const Floats slope = sigmoid * simd::fma(gate, one - sigmoid, one);
        simd::store(here * up * slope, d_gates + i, extent);
        simd::store(here * (gate * sigmoid), d_ups + i, extent);
      });
    }
  });
}

const KernelRegistration register_forward(swiglu_forward_slot, DeviceType::kCpu,
                                          swiglu_forward_cpu);
const KernelRegistration register_backward(swiglu_backward_slot, DeviceType::kCpu,
                                           swiglu_backward_cpu);

}  // namespace
}  // namespace fathom::kernels
