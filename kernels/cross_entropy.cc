#include "kernels/cross_entropy.h"

#include <bit>

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, Tensor&, Tensor&, Stream&)> cross_entropy_row_max_slot{
    "cross_entropy_row_max"};
constinit KernelSlot<void(Tensor&, const CrossEntropyClasses&, const Tensor&, Tensor&, Stream&)>
    cross_entropy_exp_sum_slot{"cross_entropy_exp_sum"};
constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Stream&)> cross_entropy_loss_slot{
    "cross_entropy_loss"};
constinit KernelSlot<void(Tensor&, const CrossEntropyRows&, std::int64_t, Stream&)>
    cross_entropy_backward_slot{"cross_entropy_backward"};

namespace {

// Checks the logits and returns the shape of everything that has one number a token.
Shape check_logits(const TensorCheck& check, const Tensor& logits) {
  check.rank("logits", logits, 2);
  check.activation_dtype("logits", logits);
  return Shape{logits.size(0)};
}

void check_sums(const TensorCheck& check, const Tensor& sums, const Shape& per_token) {
  check.shape("sums", sums, Shape{2, per_token[0]});
}

}  // namespace

void cross_entropy_row_max(const Tensor& logits, Tensor& row_max, Tensor& sums, Stream& stream) {
  const TensorCheck check("cross_entropy_row_max", stream);
  const Shape per_token = check_logits(check, logits);
  check.shape("row_max", row_max, per_token);
  check_sums(check, sums, per_token);
  cross_entropy_row_max_slot(stream, logits, row_max, sums);
}

void cross_entropy_exp_sum(Tensor& logits, const CrossEntropyClasses& classes,
                           const Tensor& row_max, Tensor& sums, Stream& stream) {
  const TensorCheck check("cross_entropy_exp_sum", stream);
  const Shape per_token = check_logits(check, logits);
  check.shape("targets", classes.targets, per_token, DType::kInt32);
  FATHOM_CHECK(classes.num_chunks > 0 &&
                   std::has_single_bit(static_cast<unsigned>(classes.num_chunks)) &&
                   logits.size(1) % classes.num_chunks == 0,
               classes.num_chunks, " chunks of ", logits.size(1), " classes");
  check.shape("row_max", row_max, per_token);
  check_sums(check, sums, per_token);
  cross_entropy_exp_sum_slot(stream, logits, classes, row_max, sums);
}

void cross_entropy_loss(const Tensor& sums, const Tensor& mask, Tensor& loss, Stream& stream) {
  const TensorCheck check("cross_entropy_loss", stream);
  check.rank("loss", loss, 1);
  check.dtype_and_device("loss", loss, DType::kFloat32);
  check_sums(check, sums, loss.shape());
  check.shape("mask", mask, loss.shape());
  cross_entropy_loss_slot(stream, sums, mask, loss);
}

void cross_entropy_backward(Tensor& logits, const CrossEntropyRows& rows, std::int64_t first_class,
                            Stream& stream) {
  const TensorCheck check("cross_entropy_backward", stream);
  const Shape per_token = check_logits(check, logits);
  check.shape("targets", rows.targets, per_token, DType::kInt32);
  check.shape("weights", rows.weights, per_token);
  check.shape("row_max", rows.row_max, per_token);
  check_sums(check, rows.sums, per_token);
  cross_entropy_backward_slot(stream, logits, rows, first_class);
}

}  // namespace fathom::kernels
