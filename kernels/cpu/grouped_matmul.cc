#include "kernels/grouped_matmul.h"

#include <algorithm>
#include <span>
#include <vector>

#include "core/error.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/weighted_for.h"

namespace fathom::kernels {
namespace cpu {
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

namespace {

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
                            multiply(part, stream);
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

// Adds the contributions of one expert's parts to some rows of its dw.
void add_expert(const Product& product, std::span<const std::int64_t> bounds,
                const WeightBlock& block, Stream& stream) {
  if (block.gradient->sum.dtype() == DType::kInt64 || bounds.size() != 2) {
    add_contributions(product, bounds, block, stream);
    return;
  }
  Product whole = product.inner_range(bounds.front(), bounds.back());
  whole.c = block.gradient->sum.mutable_data<float>() + block.first;
  whole.c_row_stride = block.row_stride;
  whole.accumulate = block.gradient->accumulate();
  multiply(whole, stream);
}

// Threads split the output into blocks of rows of one expert's dw, weighed by the expert's number
// of tokens.
void backward_weight(const Tensor& dy, const Tensor& x, const Tensor& part_offsets, GradientSum& dw,
                     Stream& stream) {
  constexpr std::int64_t kBlockOverhead = 8;  // in tokens; also what an expert without any costs
  const auto num_experts = static_cast<std::size_t>(dw.sum.size(0));
  const std::int64_t out_size = dw.sum.size(1);
  const std::int64_t in_size = dw.sum.size(2);
  const auto bounds = checked_offsets(part_offsets, x.size(0));
  const std::size_t num_parts = (bounds.size() - 1) / num_experts;
  const auto num_blocks = static_cast<std::size_t>((out_size + kThreadBlock - 1) / kThreadBlock);
  std::vector<std::int64_t> weights;
  for (std::size_t e = 0; e < num_experts; ++e) {
    weights.insert(weights.end(), num_blocks,
                   bounds[(e + 1) * num_parts] - bounds[e * num_parts] + kBlockOverhead);
  }
  const Product all{.rows = out_size,
                    .columns = in_size,
                    .inner = x.size(0),
                    .a = {dy.data<float>(), 1, out_size},
                    .b = {x.data<float>(), in_size, 1}};
  const auto work = [&](std::size_t e, std::size_t first_block, std::size_t last_block) {
    const std::int64_t first = static_cast<std::int64_t>(first_block) * kThreadBlock;
    const std::int64_t last =
        std::min(static_cast<std::int64_t>(last_block) * kThreadBlock, out_size);
    const std::int64_t first_row = static_cast<std::int64_t>(e) * out_size + first;
    add_expert(all.row_range(first, last), bounds.subspan(e * num_parts, num_parts + 1),
               {&dw, first_row * in_size, in_size}, stream);
  };
  parallel_for_weighted(weights, 1 + kMinThreadMultiplyAdds / (kThreadBlock * in_size), stream,
                        [&](std::size_t begin, std::size_t end) {
                          while (begin < end) {
                            const std::size_t e = begin / num_blocks;
                            const std::size_t last = std::min(end, (e + 1) * num_blocks);
                            work(e, begin - e * num_blocks, last - e * num_blocks);
                            begin = last;
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
