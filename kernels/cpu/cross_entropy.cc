#include "kernels/cross_entropy.h"

#include <algorithm>

#include "kernels/cpu/rows.h"

namespace fathom::kernels {
namespace {

using simd::Floats;

constexpr std::int64_t kGrainElements = 16384;

std::int64_t row_grain(std::int64_t num_classes) { return 1 + kGrainElements / (num_classes + 1); }

void row_max_cpu(const Tensor& logits, Tensor& row_max, Tensor& /*sums*/, Stream& stream) {
  const std::int64_t num_classes = logits.size(1);
  const float* rows = logits.data<float>();
  auto* largest = row_max.mutable_data<float>();
  stream.parallel_for(logits.size(0), row_grain(num_classes),
                      [=](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t token = begin; token < end; ++token) {
                          // A NaN may be overlooked here: it makes the row's sum NaN later.
                          largest[token] = simd::row_max(rows + token * num_classes, num_classes);
                        }
                      });
}

// row <- exp(row - largest), summed in a tree over chunks.
float exp_sum_tree(float* row, float largest, std::int64_t chunk_size, int num_chunks) {
  if (num_chunks == 1) {
    return simd::row_exp_sum(row, largest, row, chunk_size);
  }
  const int half = num_chunks / 2;
  const float left = exp_sum_tree(row, largest, chunk_size, half);
  return left + exp_sum_tree(row + half * chunk_size, largest, chunk_size, half);
}

void exp_sum_cpu(Tensor& logits, const CrossEntropyClasses& classes, const Tensor& row_max,
                 Tensor& sums, Stream& stream) {
  const std::int64_t num_classes = logits.size(1);
  const std::int64_t chunk_size = num_classes / classes.num_chunks;
  auto* rows = logits.mutable_data<float>();
  const auto* target = classes.targets.data<std::int32_t>();
  const float* largest = row_max.data<float>();
  auto* row_sums = sums.mutable_data<float>();
  float* target_logits = row_sums + logits.size(0);
  stream.parallel_for(
      logits.size(0), row_grain(num_classes), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t token = begin; token < end; ++token) {
          float* row = rows + token * num_classes;
          const std::int64_t local = target[token] - classes.first_class;
          const bool is_here = local >= 0 && local < num_classes;
          target_logits[token] = is_here ? row[local] - largest[token] : 0.0F;
          row_sums[token] = exp_sum_tree(row, largest[token], chunk_size, classes.num_chunks);
        }
      });
}

void loss_cpu(const Tensor& sums, const Tensor& mask, Tensor& loss, Stream& stream) {
  const float* row_sums = sums.data<float>();
  const float* target_logits = row_sums + loss.numel();
  const float* counted = mask.data<float>();
  auto* losses = loss.mutable_data<float>();
  stream.parallel_for(loss.numel(), kGrainElements / 8, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      losses[token] =
          counted[token] == 0.0F ? 0.0F : simd::log_scalar(row_sums[token]) - target_logits[token];
    }
  });
}

// `logits` holds exp(logits - row_max).
void backward_cpu(Tensor& logits, const CrossEntropyRows& tokens, std::int64_t first_class,
                  Stream& stream) {
  const std::int64_t num_classes = logits.size(1);
  auto* rows = logits.mutable_data<float>();
  const auto* target = tokens.targets.data<std::int32_t>();
  const float* weights = tokens.weights.data<float>();
  const float* row_sums = tokens.sums.data<float>();
  stream.parallel_for(
      logits.size(0), row_grain(num_classes), [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t token = begin; token < end; ++token) {
          float* row = rows + token * num_classes;
          const float weight = weights[token];
          if (weight == 0.0F) {
            std::fill_n(row, num_classes, 0.0F);
            continue;
          }
          const Floats factor = simd::broadcast(weight / row_sums[token]);
          simd::for_each_block(num_classes, [=](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
            simd::store(simd::load(row + i, extent) * factor, row + i, extent);
          });
          const std::int64_t local = target[token] - first_class;
          if (local >= 0 && local < num_classes) {
            row[local] -= weight;
          }
        }
      });
}

const KernelRegistration register_row_max(cross_entropy_row_max_slot, DeviceType::kCpu,
                                          row_max_cpu);
const KernelRegistration register_exp_sum(cross_entropy_exp_sum_slot, DeviceType::kCpu,
                                          exp_sum_cpu);
const KernelRegistration register_loss(cross_entropy_loss_slot, DeviceType::kCpu, loss_cpu);
const KernelRegistration register_backward(cross_entropy_backward_slot, DeviceType::kCpu,
                                           backward_cpu);

}  // namespace
}  // namespace fathom::kernels
