#include "model/options.h"

#include <cmath>

namespace fathom::model {
namespace {

double temperature(const kernels::YarnOptions& yarn, double mscale) {
  return yarn.factor > 1.0 ? 0.1 * mscale * std::log(yarn.factor) + 1.0 : 1.0;
}

}  // namespace

float ModelOptions::softmax_scale() const noexcept {
  const double m = temperature(yarn, yarn_mscale_all_dim);
  return static_cast<float>(m * m / std::sqrt(static_cast<double>(qk_head_dim())));
}

float ModelOptions::rotation_scale() const noexcept {
  return static_cast<float>(temperature(yarn, yarn_mscale) /
                            temperature(yarn, yarn_mscale_all_dim));
}

}  // namespace fathom::model
