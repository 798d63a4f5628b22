#include "model/options.h"

#include <cmath>

namespace fathom::model {

float ModelOptions::softmax_scale() const noexcept {
  const double m = yarn.factor > 1.0 ? 0.1 * yarn_mscale * std::log(yarn.factor) + 1.0 : 1.0;
  return static_cast<float>(m * m / std::sqrt(static_cast<double>(qk_head_dim())));
}

}  // namespace fathom::model
