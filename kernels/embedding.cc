#include "kernels/embedding.h"

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, const Tensor&, std::int64_t, Tensor&, Stream&)>
    embedding_forward_slot{"embedding_forward"};
constinit KernelSlot<void(const Tensor&, const Tensor&, std::int64_t, GradientSum&, Stream&)>
    embedding_backward_slot{"embedding_backward"};

namespace {

void check_embedding(const TensorCheck& check, const Tensor& tokens, const Shape& table,
                     const Tensor& rows) {
  check.rank("tokens", tokens, 1);
  check.dtype_and_device("tokens", tokens, DType::kInt32);
  FATHOM_CHECK(table.rank() == 2, "table ", table);
  check.shape("rows", rows, Shape{tokens.size(0), table[1]}, check.activation_dtype("rows", rows));
}

}  // namespace

void embedding_forward(const Tensor& tokens, const Tensor& table, std::int64_t first_row,
                       Tensor& out, Stream& stream) {
  const TensorCheck check("embedding_forward", stream);
  check_embedding(check, tokens, table.shape(), out);
  check.dtype_and_device("table", table, out.dtype());
  embedding_forward_slot(stream, tokens, table, first_row, out);
}

void embedding_backward(const Tensor& tokens, const Tensor& dout, std::int64_t first_row,
                        GradientSum& table_grad, Stream& stream) {
  const TensorCheck check("embedding_backward", stream);
  check_embedding(check, tokens, table_grad.sum.shape(), dout);
  check_gradient(check, "table_grad", table_grad, table_grad.sum.shape(), 0);
  fill_if_empty(table_grad, stream);  // most rows have no token
  embedding_backward_slot(stream, tokens, dout, first_row, table_grad);
}

}  // namespace fathom::kernels
