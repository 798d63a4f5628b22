#include "parallel/tensor_parallel.h"

#include "core/error.h"

namespace fathom::parallel {

Tensor gather_token_rows(Communicator& tensor, const Tensor& part, Stream& stream) {
  if (tensor.world_size() == 1) {
    return part;
  }
  Tensor full =
      Tensor::empty(Shape{part.size(0) * tensor.world_size(), part.size(1)}, part.dtype(), stream);
  tensor.all_gather(part, full, stream).wait();
  return full;
}

Tensor sum_and_scatter_token_rows(Communicator& tensor, const Tensor& partial_sums,
                                  Stream& stream) {
  if (tensor.world_size() == 1) {
    return partial_sums;
  }
  FATHOM_CHECK(partial_sums.size(0) % tensor.world_size() == 0, partial_sums.shape(), " over ",
               tensor.world_size(), " tensor ranks");
  Tensor part =
      Tensor::empty(Shape{partial_sums.size(0) / tensor.world_size(), partial_sums.size(1)},
                    partial_sums.dtype(), stream);
  tensor.reduce_scatter(partial_sums, part, stream).wait();
  return part;
}

}  // namespace fathom::parallel
