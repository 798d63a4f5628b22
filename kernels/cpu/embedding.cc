#include "kernels/embedding.h"

#include <cstring>

namespace fathom::kernels {
namespace {

constexpr std::int64_t kGrainElements = 32768;

void embedding_forward_cpu(const Tensor& tokens, const Tensor& table, std::int64_t first_row,
                           Tensor& out, Stream& stream) {
  const std::int64_t num_rows = table.size(0);
  const std::int64_t hidden = table.size(1);
  const std::int32_t* token = tokens.data<std::int32_t>();
  const float* rows = table.data<float>();
  auto* result = out.mutable_data<float>();
  const auto row_bytes = static_cast<std::size_t>(hidden) * sizeof(float);
  stream.parallel_for(out.size(0), 1 + kGrainElements / (hidden + 1),
                      [=](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t i = begin; i < end; ++i) {
                          const std::int64_t row = token[i] - first_row;
                          if (row >= 0 && row < num_rows) {
                            std::memcpy(result + i * hidden, rows + row * hidden, row_bytes);
                          } else {
                            std::memset(result + i * hidden, 0, row_bytes);
                          }
                        }
                      });
}

// Threads split columns, so that each element is a sum over all tokens in their order.
void embedding_backward_cpu(const Tensor& tokens, const Tensor& dout, std::int64_t first_row,
                            Tensor& table_grad, Stream& stream) {
  const std::int64_t num_tokens = tokens.size(0);
  const std::int64_t num_rows = table_grad.size(0);
  const std::int64_t hidden = table_grad.size(1);
  const std::int32_t* token = tokens.data<std::int32_t>();
  const float* gradient = dout.data<float>();
  auto* rows = table_grad.mutable_data<float>();
  stream.parallel_for(hidden, 16 + kGrainElements / (num_tokens + 1),
                      [=](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t i = 0; i < num_tokens; ++i) {
                          const std::int64_t row = token[i] - first_row;
                          if (row < 0 || row >= num_rows) {
                            continue;
                          }
                          const float* from = gradient + i * hidden;
                          float* to = rows + row * hidden;
                          for (std::int64_t column = begin; column < end; ++column) {
                            to[column] += from[column];
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
