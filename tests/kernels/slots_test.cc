#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/grouped_matmul.h"
#include "kernels/matmul.h"
#include "kernels/packed_matmul.h"
#include "kernels/permute.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/router.h"
#include "kernels/swiglu.h"
#include "tests/support/catch.h"

namespace fathom::kernels {
namespace {

template <class Slot>
void check_has_cpu_kernel(const Slot& slot) {
  INFO(std::string(slot.operation()));
  CHECK(slot.has(DeviceType::kCpu));
}

}  // namespace

TEST_CASE("Every operation has a CPU kernel") {
  const auto check = [](const auto&... slots) { (check_has_cpu_kernel(slots), ...); };
  check(adamw_step_slot, sum_of_squares_slot);
  check(cross_entropy_row_max_slot, cross_entropy_exp_sum_slot, cross_entropy_loss_slot,
        cross_entropy_backward_slot);
  check(add_slot, add_in_place_slot, maximum_in_place_slot, scale_slot, fill_slot, copy_slot,
        convert_slot, copy_columns_slot);
  check(attention_forward_slot, attention_backward_slot);
  check(matmul_forward_slot, matmul_backward_input_slot, matmul_backward_weight_slot);
  check(grouped_matmul_forward_slot, grouped_matmul_backward_input_slot,
        grouped_matmul_backward_weight_slot);
  check(pack_weight_slot, packed_matmul_forward_slot, round_gradient_slot);
  check(embedding_forward_slot, embedding_backward_slot);
  check(sort_slots_slot, permute_forward_slot, permute_backward_slot, combine_forward_slot,
        combine_backward_slot, gather_rows_slot);
  check(rms_norm_forward_slot, rms_norm_backward_input_slot, rms_norm_backward_gain_slot);
  check(rope_slot);
  check(router_forward_slot, router_backward_slot, count_experts_slot, balance_statistics_slot,
        selection_statistics_slot, balance_backward_slot);
  check(swiglu_forward_slot, swiglu_backward_slot);
}

TEST_CASE("An operation without a kernel for the device says so, and on meta does nothing") {
  KernelSlot<void(int&, Stream&)> slot("half");
  Stream cpu;
  Stream meta(Device{DeviceType::kMeta, 0});
  int value = 3;
  CHECK_THROWS_AS(slot(cpu, value), InternalError);
  slot(meta, value);
  CHECK(value == 3);
  const KernelRegistration registration(
      slot, DeviceType::kCpu, +[](int& x, Stream&) { x = 2 * x; });
  slot(cpu, value);
  CHECK(value == 6);
}

}  // namespace fathom::kernels
