#include "optim/grad_clip.h"

#include "kernels/elementwise.h"
#include "kernels/gradient_norm.h"

namespace fathom::optim {

void add_gradient_squares(parallel::ParameterBuffer& buffer, Tensor& squares, Tensor& non_finite,
                          Tensor& num_refused, Stream& stream) {
  for (const parallel::ParameterGroup& group : buffer.groups()) {
    kernels::sum_of_squares(group.gradient_shard, squares, non_finite, stream);
  }
  if (buffer.num_refused().defined()) {
    kernels::add_in_place(num_refused, buffer.num_refused(), stream);
  }
}

}  // namespace fathom::optim
