#include "model/loss_sums.h"

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"
#include "core/host_copy.h"
#include "kernels/exact_sums.h"
#include "tests/support/catch.h"

namespace fathom::model {

TEST_CASE("Losses are added exactly, by depth and by this rank's sequences") {
  Stream stream;
  LossSums sums(2);
  const auto add = [&](int depth, const std::vector<float>& losses) {
    Tensor tensor = Tensor::empty(Shape{std::ssize(losses)}, DType::kFloat32, stream);
    from_host<float>(losses, tensor, stream);
    sums.add_token_losses(depth, tensor);
  };
  add(0, {1e20F, 0.25F});
  add(1, {2.0F});
  add(0, {-1e20F, 0.0F, 1.5F});
  Tensor balance = Tensor::empty(Shape{5}, DType::kInt64, stream);
  std::vector<std::int64_t> bits;
  for (const double loss : {1.0, 0.1, 4.0, 0.3, 16.0}) {
    bits.push_back(std::bit_cast<std::int64_t>(loss));
  }
  from_host<std::int64_t>(bits, balance, stream);
  sums.add_balance_losses(balance, 1, 2);
  const auto totals = [&] {
    return kernels::exact_sum_values(to_host<std::int64_t>(sums.totals(stream), stream));
  };
  CHECK(totals() == std::vector<double>{1.75, 2.0, 0.1 + 0.3});
  add(1, {0.5F});
  CHECK(totals() == std::vector<double>{1.75, 2.5, 0.1 + 0.3});
  add(0, {std::numeric_limits<float>::quiet_NaN()});
  CHECK(std::isnan(totals()[0]));
  CHECK_THROWS_AS(add(2, {1.0F}), InternalError);
}

}  // namespace fathom::model
