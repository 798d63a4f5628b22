#include "kernels/cross_entropy.h"

#include <bit>

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, Tensor&, Stream&)> cross_entropy_row_max_slot{
    "cross_entropy_row_max"};
constinit KernelSlot<void(Tensor&, const CrossEntropyClasses&, const Tensor&, Tensor&, Tensor&,
                          Stream&)>
    cross_entropy_exp_sum_slot{"cross_entropy_exp_sum"};
constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Stream&)>
    cross_entropy_loss_slot{"cross_entropy_loss"};
constinit KernelSlot<void(Tensor&, const CrossEntropyRows&, std::int64_t, Stream&)>
    cross_entropy_backward_slot{"cross_entropy_backward"};

namespace {

// Checks the logits and returns the shape of everything that has one number a token.
Shape check_logits(const TensorCheck& check, const Tensor& logits) {
  check.rank("logits", logits, 2);
  check.activation_dtype("logits", logits);
  return Shape{logits.size(0)};
}

}  // namespace

void cross_entropy_row_max(const Tensor& logits, Tensor& row_max, Stream& stream) {
  const TensorCheck check("cross_entropy_row_max", stream);
  const Shape per_token = check_logits(check, logits);
  check.shape("row_max", row_max, per_token);
  cross_entropy_row_max_slot(stream, logits, row_max);
}

void cross_entropy_exp_sum(Tensor& logits, const CrossEntropyClasses& classes,
                           const Tensor& row_max, Tensor& row_sum, Tensor& target_logit,
                           Stream& stream) {
  const TensorCheck check("cross_entropy_exp_sum", stream);
  const Shape per_token = check_logits(check, logits);
  check.shape("targets", classes.targets, per_token, DType::kInt32);
  FATHOM_CHECK(classes.num_chunks > 0 &&
                   std::has_single_bit(static_cast<unsigned>(classes.num_chunks)) &&
                   logits.size(1) % classes.num_chunks == 0,
               classes.num_chunks, " chunks of ", logits.size(1), " classes");
  check.shape("row_max", row_max, per_token);
  check.shape("row_sum", row_sum, per_token);
  check.shape("target_logit", target_logit, per_token);
  cross_entropy_exp_sum_slot(stream, logits, classes, row_max, row_sum, target_logit);
}

void cross_entropy_loss(const Tensor& row_sum, const Tensor& target_logit, const Tensor& mask,
                        Tensor& loss, Stream& stream) {
  const TensorCheck check("cross_entropy_loss", stream);
  check.rank("row_sum", row_sum, 1);
  check.dtype_and_device("row_sum", row_sum, DType::kFloat32);
  check.shape("target_logit", target_logit, row_sum.shape());
  check.shape("mask", mask, row_sum.shape());
  check.shape("loss", loss, row_sum.shape());
  cross_entropy_loss_slot(stream, row_sum, target_logit, mask, loss);
}

void cross_entropy_backward(Tensor& logits, const CrossEntropyRows& rows, std::int64_t first_class,
                            Stream& stream) {
  const TensorCheck check("cross_entropy_backward", stream);
  const Shape per_token = check_logits(check, logits);
  check.shape("targets", rows.targets, per_token, DType::kInt32);
  check.shape("weights", rows.weights, per_token);
  check.shape("row_sum", rows.row_sum, per_token);
  cross_entropy_backward_slot(stream, logits, rows, first_class);
}

}  // namespace fathom::kernels
