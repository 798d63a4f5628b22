#include "kernels/adamw.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/cpu/simd.h"

namespace fathom::kernels {
namespace {

using simd::Floats;

constexpr std::int64_t kGrain = 8192;
constexpr std::int64_t kBlock = 512;

// One operand of float32 or bfloat16, worked on as float32 a block at a time: in place, or through
// a buffer.
class Operand {
 public:
  explicit Operand(const Tensor& tensor)
      : bytes_(tensor.raw()), is_float_(tensor.dtype() == DType::kFloat32) {}

  float* load(std::int64_t first, std::int64_t count) {
    if (is_float_) {
      return floats() + first;
    }
    std::transform(halves() + first, halves() + first + count, buffer_.begin(),
                   [](BFloat16 x) { return static_cast<float>(x); });
    return buffer_.data();
  }
  void store(std::int64_t first, std::int64_t count) {
    if (!is_float_) {
      std::transform(buffer_.begin(), buffer_.begin() + count, halves() + first,
                     [](float x) { return BFloat16(x); });
    }
  }

 private:
  float* floats() const { return reinterpret_cast<float*>(bytes_); }
  BFloat16* halves() const { return reinterpret_cast<BFloat16*>(bytes_); }

  std::byte* bytes_;
  bool is_float_;
  alignas(64) std::array<float, kBlock> buffer_;
};

struct Block {
  const float* grad;
  float* master;
  float* exp_avg;
  float* exp_avg_sq;
  std::int64_t count;
};

void update(const AdamWConstants& constants, float grad_scale, const Block& block) {
  simd::for_each_block(block.count, [&](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
    const Floats gradient = simd::load(block.grad + i, extent) * simd::broadcast(grad_scale);
    const Floats m = simd::broadcast(constants.beta1) * simd::load(block.exp_avg + i, extent) +
                     simd::broadcast(constants.one_minus_beta1) * gradient;
    const Floats v = simd::broadcast(constants.beta2) * simd::load(block.exp_avg_sq + i, extent) +
                     simd::broadcast(constants.one_minus_beta2) * (gradient * gradient);
    const Floats root = simd::sqrt(v * simd::broadcast(constants.exp_avg_sq_factor)) +
                        simd::broadcast(constants.epsilon);
    const Floats weight = simd::load(block.master + i, extent);
    const Floats change =
        simd::broadcast(constants.step_size) * m / root + simd::broadcast(constants.decay) * weight;
    simd::store(m, block.exp_avg + i, extent);
    simd::store(v, block.exp_avg_sq + i, extent);
    simd::store(weight - change, block.master + i, extent);
  });
}

void adamw_step_cpu(const AdamWOptions& options, const Tensor& grad, Tensor& master, Tensor& value,
                    Tensor& exp_avg, Tensor& exp_avg_sq, Stream& stream) {
  const float grad_scale =
      options.grad_scale.defined() ? options.grad_scale.data<float>()[0] : 1.0F;
  if (std::isnan(grad_scale)) {
    return;
  }
  const AdamWConstants constants(options);
  auto* masters = master.mutable_data<float>();
  const bool has_own_value = value.raw() != master.raw();
  stream.parallel_for(master.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    Operand grads(grad);
    Operand values(value);
    Operand averages(exp_avg);
    Operand squares(exp_avg_sq);
    for (std::int64_t first = begin; first < end; first += kBlock) {
      const std::int64_t count = std::min(kBlock, end - first);
      update(constants, grad_scale,
             {grads.load(first, count), masters + first, averages.load(first, count),
              squares.load(first, count), count});
      averages.store(first, count);
      squares.store(first, count);
      if (has_own_value) {
        std::copy_n(masters + first, count, values.load(first, count));
        values.store(first, count);
      }
    }
  });
}

const KernelRegistration register_step(adamw_step_slot, DeviceType::kCpu, adamw_step_cpu);

}  // namespace
}  // namespace fathom::kernels
