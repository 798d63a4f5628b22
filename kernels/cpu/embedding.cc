#include "kernels/embedding.h"

#include <algorithm>

#include "kernels/cpu/contribution.h"

namespace fathom::kernels {
namespace {

constexpr std::int64_t kGrainElements = 32768;

// A -0 becomes +0.
void copy_row(const float* from, std::int64_t size, float* to) {
  std::transform(from, from + size, to, [](float x) { return x + 0.0F; });
}

void embedding_forward_cpu(const Tensor& tokens, const Tensor& table, std::int64_t first_row,
                           Tensor& out, Stream& stream) {
  const std::int64_t num_rows = table.size(0);
  const std::int64_t hidden = table.size(1);
  const std::int32_t* token = tokens.data<std::int32_t>();
  const float* rows = table.data<float>();
  auto* result = out.mutable_data<float>();
  stream.parallel_for(out.size(0), 1 + kGrainElements / (hidden + 1),
                      [=](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t i = begin; i < end; ++i) {
                          const std::int64_t row = token[i] - first_row;
                          float* const to = result + i * hidden;
                          if (row >= 0 && row < num_rows) {
                            copy_row(rows + row * hidden, hidden, to);
                          } else {
                            std::fill_n(to, hidden, 0.0F);
                          }
                        }
                      });
}

// Threads split columns, so that an element's tokens come in their order.
void embedding_backward_cpu(const Tensor& tokens, const Tensor& dout, std::int64_t first_row,
                            GradientSum& table_grad, Stream& stream) {
  const std::int64_t num_tokens = tokens.size(0);
  const std::int64_t num_rows = table_grad.sum.size(0);
  const std::int64_t hidden = table_grad.sum.size(1);
  const std::int32_t* token = tokens.data<std::int32_t>();
  const float* gradient = dout.data<float>();
  stream.parallel_for(
      hidden, 16 + kGrainElements / (num_tokens + 1), [&](std::int64_t begin, std::int64_t end) {
        cpu::ContributionSink sink(table_grad);
        for (std::int64_t i = 0; i < num_tokens; ++i) {
          const std::int64_t row = token[i] - first_row;
          if (row >= 0 && row < num_rows) {
            sink.add(gradient + i * hidden + begin, row * hidden + begin, end - begin);
          }
        }
      });
}

const KernelRegistration register_forward(embedding_forward_slot, DeviceType::kCpu,
                                          embedding_forward_cpu);
const KernelRegistration register_backward(embedding_backward_slot, DeviceType::kCpu,
                                           embedding_backward_cpu);

}  // namespace
}  // namespace fathom::kernels
