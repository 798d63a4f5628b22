#include "kernels/grouped_matmul.h"

#include <algorithm>
#include <span>

#include "core/error.h"
#include "kernels/cpu/product.h"

namespace fathom::kernels {
namespace cpu {
namespace {

std::span<const std::int64_t> checked_offsets(const Tensor& offsets, std::int64_t num_rows) {
  const auto values = offsets.values<std::int64_t>();
  FATHOM_CHECK(values.front() == 0 && values.back() == num_rows, "grouped_matmul: offsets from ",
               values.front(), " to ", values.back(), " for ", num_rows, " rows");
  for (std::size_t e = 1; e < values.size(); ++e) {
    FATHOM_CHECK(values[e - 1] <= values[e], "grouped_matmul: expert ", e - 1,
                 " has the rows from ", values[e - 1], " to ", values[e]);
  }
  return values;
}

// Both products with one weight matrix per expert: rows of `c` = rows of `a` times `b` of their
// expert. Threads split all rows evenly, whoever's they are, so that uneven experts do not leave
// one idle.
struct RowProducts {
  Product product;                 // of all rows; b that of expert 0
  std::int64_t expert_stride = 0;  // elements from one expert's b to the next
};

void multiply_rows(const RowProducts& all, std::span<const std::int64_t> offsets, Stream& stream) {
  const Product& product = all.product;
  const std::int64_t row_work = std::max<std::int64_t>(1, product.columns * product.inner);
  stream.parallel_for(product.rows, 1 + kMinThreadMultiplyAdds / row_work,
                      [&](std::int64_t begin, std::int64_t end) {
                        for (std::size_t e = 0; e + 1 < offsets.size(); ++e) {
                          const std::int64_t first = std::max(begin, offsets[e]);
                          const std::int64_t last = std::min(end, offsets[e + 1]);
                          if (first < last) {
                            Product part = product.row_range(first, last);
                            part.b.data += static_cast<std::int64_t>(e) * all.expert_stride;
                            multiply(part);
                          }
                        }
                      });
}

void forward(const Tensor& x, const Tensor& w, const Tensor& offsets, Tensor& y, Stream& stream) {
  const std::int64_t out_size = w.size(1);
  const std::int64_t in_size = w.size(2);
  multiply_rows({.product = {.rows = x.size(0),
                             .columns = out_size,
                             .inner = in_size,
                             .a = {x.data<float>(), in_size, 1},
                             .b = {w.data<float>(), 1, in_size},
                             .c = y.mutable_data<float>(),
                             .c_row_stride = out_size},
                 .expert_stride = out_size * in_size},
                checked_offsets(offsets, x.size(0)), stream);
}

void backward_input(const Tensor& dy, const Tensor& w, const Tensor& offsets, Tensor& dx,
                    Stream& stream) {
  const std::int64_t out_size = w.size(1);
  const std::int64_t in_size = w.size(2);
  multiply_rows({.product = {.rows = dy.size(0),
                             .columns = in_size,
                             .inner = out_size,
                             .a = {dy.data<float>(), out_size, 1},
                             .b = {w.data<float>(), in_size, 1},
                             .c = dx.mutable_data<float>(),
                             .c_row_stride = in_size},
                 .expert_stride = out_size * in_size},
                checked_offsets(offsets, dy.size(0)), stream);
}

// Threads split the output into blocks of rows of one expert's dw, weighed by the expert's number
// of tokens.
void backward_weight(const Tensor& dy, const Tensor& x, const Tensor& offsets, Tensor& dw,
                     Accumulate accumulate, Stream& stream) {
  constexpr std::int64_t kExpertOverhead =
      8;  // of a block, in tokens; also makes empty experts count
  const std::int64_t out_size = dw.size(1);
  const std::int64_t in_size = dw.size(2);
  const auto first_tokens = checked_offsets(offsets, x.size(0));
  const std::int64_t num_blocks = (out_size + kThreadBlock - 1) / kThreadBlock;
  const std::int64_t total_weight = num_blocks * (x.size(0) + kExpertOverhead * dw.size(0));
  const std::int64_t unit_work = std::max<std::int64_t>(1, kThreadBlock * in_size);
  float* const dw_data = dw.mutable_data<float>();
  stream.parallel_for(
      total_weight, 1 + kMinThreadMultiplyAdds / unit_work,
      [&](std::int64_t begin, std::int64_t end) {
        std::int64_t position = 0;  // of the expert's first block among all weights
        for (std::int64_t e = 0; e < dw.size(0); ++e) {
          const std::int64_t token = first_tokens[static_cast<std::size_t>(e)];
          const std::int64_t num_tokens = first_tokens[static_cast<std::size_t>(e) + 1] - token;
          const std::int64_t weight = num_tokens + kExpertOverhead;
          // A block belongs to the range in which its position lies.
          const auto first_block_from = [&](std::int64_t bound) {
            return std::clamp<std::int64_t>((bound - position + weight - 1) / weight, 0,
                                            num_blocks);
          };
          const std::int64_t first = first_block_from(begin) * kThreadBlock;
          const std::int64_t last = std::min(first_block_from(end) * kThreadBlock, out_size);
          if (first < last) {
            multiply(Product{.rows = out_size,
                             .columns = in_size,
                             .inner = num_tokens,
                             .a = {dy.data<float>() + token * out_size, 1, out_size},
                             .b = {x.data<float>() + token * in_size, in_size, 1},
                             .c = dw_data + e * out_size * in_size,
                             .c_row_stride = in_size,
                             .accumulate = accumulate}
                         .row_range(first, last));
          }
          position += weight * num_blocks;
        }
      });
}

const KernelRegistration register_forward(grouped_matmul_forward_slot, DeviceType::kCpu, &forward);
const KernelRegistration register_backward_input(grouped_matmul_backward_input_slot,
                                                 DeviceType::kCpu, &backward_input);
const KernelRegistration register_backward_weight(grouped_matmul_backward_weight_slot,
                                                  DeviceType::kCpu, &backward_weight);

}  // namespace
}  // namespace cpu
}  // namespace fathom::kernels
