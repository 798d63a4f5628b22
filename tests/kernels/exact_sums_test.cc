#include "tests/kernels/exact_sums.h"

#include <bit>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "tests/kernels/op_reference.h"

namespace fathom::kernels {

TEST_CASE("add_exactly loses nothing, takes every stride-th term and the bits of doubles") {
  Stream stream;
  ExactSum before;
  before.add(0.125);
  Tensor sum = tensor_of_sum(before, stream);
  add_exactly(tensor_of<float>({1e30F, 5.0F, 0x1p-140F, 5.0F, -1e30F}, Shape{5}, stream), 0, 2, sum,
              stream);
  CHECK(exact_sum_values(to_host<std::int64_t>(sum, stream))[0] == 0.125);  // rounded
  const auto bits = [](double x) { return std::bit_cast<std::int64_t>(x); };
  add_exactly(tensor_of<std::int64_t>({bits(7.0), bits(-0.125), bits(7.0)}, Shape{3}, stream), 1, 2,
              sum, stream);
  CHECK(exact_sum_values(to_host<std::int64_t>(sum, stream))[0] == 0x1p-140);
  add_exactly(tensor_of<float>({std::numeric_limits<float>::infinity()}, Shape{1}, stream), 0, 1,
              sum, stream);
  CHECK(std::isnan(exact_sum_values(to_host<std::int64_t>(sum, stream))[0]));
}

}  // namespace fathom::kernels
