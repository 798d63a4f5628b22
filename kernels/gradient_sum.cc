#include "kernels/gradient_sum.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "kernels/elementwise.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, int, Tensor&, Stream&)> round_gradient_slot{
    "round_gradient"};

void check_gradient(const TensorCheck& check, std::string_view name, const GradientSum& gradient,
                    const Shape& shape, std::int64_t num_rows) {
  const bool is_integer = gradient.sum.dtype() == DType::kInt64;
  check.shape(name, gradient.sum, shape, is_integer ? DType::kInt64 : DType::kFloat32);
  if (is_integer) {
    check.shape("num_refused", gradient.num_refused, Shape{1}, DType::kInt64);
    FATHOM_CHECK(
        gradient.limit > 0.0F && gradient.limit <= contribution_limit(gradient.fraction_bits, 1),
        name, ": a limit of ", gradient.limit, " with ", gradient.fraction_bits, " bits");
  }
  FATHOM_CHECK(gradient.unit_rows == 0 || num_rows % gradient.unit_rows == 0, name, ": ", num_rows,
               " rows are not whole units of ", gradient.unit_rows);
}

void fill_if_empty(GradientSum& gradient, Stream& stream) {
  if (gradient.is_empty) {
    fill(gradient.sum, 0.0F, stream);
    gradient.is_empty = false;
  }
}

float contribution_limit(int fraction_bits, std::int64_t num_contributions) {
  const double limit = std::ldexp(1.0, 63 - fraction_bits) /
                       static_cast<double>(std::max<std::int64_t>(2, num_contributions));
  const auto rounded = static_cast<float>(limit);
  return static_cast<double>(rounded) > limit
             ? std::nextafter(rounded, -std::numeric_limits<float>::infinity())
             : rounded;
}

void round_gradient(const Tensor& sum, int fraction_bits, Tensor& value, Stream& stream) {
  const TensorCheck check("round_gradient", stream);
  check.dtype_and_device("sum", sum, DType::kInt64);
  check.numel("value", value, sum.numel(), DType::kFloat32);
  round_gradient_slot(stream, sum, fraction_bits, value);
}

}  // namespace fathom::kernels
