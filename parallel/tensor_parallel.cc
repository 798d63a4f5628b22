#include "parallel/tensor_parallel.h"

#include "core/error.h"
#include "kernels/elementwise.h"

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

namespace {

Tensor converted(const Tensor& x, DType dtype, Stream& stream) {
  if (x.dtype() == dtype) {
    return x;
  }
  Tensor result = Tensor::empty(x.shape(), dtype, stream);
  kernels::convert(x, result, stream);
  return result;
}

}  // namespace

Tensor sum_and_scatter_token_rows(Communicator& tensor, const Tensor& partial_sums, DType dtype,
                                  Stream& stream) {
  if (tensor.world_size() == 1) {
    return converted(partial_sums, dtype, stream);
  }
  FATHOM_CHECK(partial_sums.size(0) % tensor.world_size() == 0, partial_sums.shape(), " over ",
               tensor.world_size(), " tensor ranks");
  Tensor part =
      Tensor::empty(Shape{partial_sums.size(0) / tensor.world_size(), partial_sums.size(1)},
                    partial_sums.dtype(), stream);
  tensor.reduce_scatter(partial_sums, part, stream).wait();
  return converted(part, dtype, stream);
}

}  // namespace fathom::parallel
