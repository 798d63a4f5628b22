#include "kernels/embedding.h"

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, const Tensor&, std::int64_t, Tensor&, Stream&)>
    embedding_forward_slot{"embedding_forward"};
constinit KernelSlot<void(const Tensor&, const Tensor&, std::int64_t, Tensor&, Stream&)>
    embedding_backward_slot{"embedding_backward"};

namespace {

void check_embedding(std::string_view operation, const Tensor& tokens, const Tensor& table,
                     const Tensor& rows, const Stream& stream) {
  const TensorCheck check(operation, stream);
  check.rank("tokens", tokens, 1);
  check.dtype_and_device("tokens", tokens, DType::kInt32);
  check.rank("table", table, 2);
  check.dtype_and_device("table", table, DType::kFloat32);
  check.shape("rows", rows, Shape{tokens.size(0), table.size(1)});
}

}  // namespace

void embedding_forward(const Tensor& tokens, const Tensor& table, std::int64_t first_row,
                       Tensor& out, Stream& stream) {
  check_embedding("embedding_forward", tokens, table, out, stream);
  embedding_forward_slot(stream, tokens, table, first_row, out);
}

void embedding_backward(const Tensor& tokens, const Tensor& dout, std::int64_t first_row,
                        Tensor& table_grad, Stream& stream) {
  check_embedding("embedding_backward", tokens, table_grad, dout, stream);
  embedding_backward_slot(stream, tokens, dout, first_row, table_grad);
}

}  // namespace fathom::kernels
