#include "kernels/adamw.h"

#include <cmath>

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const AdamWOptions&, const Tensor&, Tensor&, Tensor&, Tensor&, Tensor&,
                          Stream&)>
    adamw_step_slot{"adamw_step"};

namespace {

// [n] elements of float32 or bfloat16.
void check_floating(const TensorCheck& check, std::string_view name, const Tensor& tensor,
                    std::int64_t n) {
  FATHOM_CHECK(tensor.dtype() == DType::kFloat32 || tensor.dtype() == DType::kBFloat16, name,
               " is ", tensor.dtype());
  check.numel(name, tensor, n, tensor.dtype());
}

}  // namespace

AdamWConstants::AdamWConstants(const AdamWOptions& options)
    : beta1(static_cast<float>(options.beta1)),
      one_minus_beta1(static_cast<float>(1.0 - options.beta1)),
      beta2(static_cast<float>(options.beta2)),
      one_minus_beta2(static_cast<float>(1.0 - options.beta2)),
      step_size(
          static_cast<float>(options.learning_rate /
                             (1.0 - std::pow(options.beta1, static_cast<double>(options.step))))),
      exp_avg_sq_factor(static_cast<float>(
          1.0 / (1.0 - std::pow(options.beta2, static_cast<double>(options.step))))),
      epsilon(static_cast<float>(options.epsilon)),
      decay(static_cast<float>(options.learning_rate * options.weight_decay)) {}

void adamw_step(const AdamWOptions& options, const Tensor& grad, Tensor& master, Tensor& value,
                Tensor& exp_avg, Tensor& exp_avg_sq, Stream& stream) {
  FATHOM_CHECK(options.step >= 1 && options.beta1 >= 0.0 && options.beta1 < 1.0 &&
                   options.beta2 >= 0.0 && options.beta2 < 1.0,
               "AdamW: step ", options.step, ", beta1 ", options.beta1, ", beta2 ", options.beta2);
  const TensorCheck check("adamw_step", stream);
  const std::int64_t n = master.numel();
  check.dtype_and_device("master", master, DType::kFloat32);
  check_floating(check, "value", value, n);
  check_floating(check, "grad", grad, n);
  check_floating(check, "exp_avg", exp_avg, n);
  check_floating(check, "exp_avg_sq", exp_avg_sq, n);
  if (options.grad_scale.defined()) {
    check.numel("grad_scale", options.grad_scale, 1, DType::kFloat32);
  }
  adamw_step_slot(stream, options, grad, master, value, exp_avg, exp_avg_sq);
}

}  // namespace fathom::kernels
