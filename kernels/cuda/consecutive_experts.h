#pragma once

namespace fathom::kernels::cuda {

// The j-th of `count` consecutive experts from `first` on, modulo num_experts, in ascending order.
constexpr int ascending_of_consecutive(int first, int count, int num_experts, int j) {
  const int beyond = first + count - num_experts;
  const int num_wrapped = beyond > 0 ? beyond : 0;
  return j < num_wrapped ? j : first + j - num_wrapped;
}

}  // namespace fathom::kernels::cuda
