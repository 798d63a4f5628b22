#include "optim/lr_schedule.h"

#include <cmath>

#include "tests/support/catch.h"

using namespace fathom::optim;

namespace {

constexpr std::int64_t kTrillion = 1'000'000'000'000;
constexpr std::int64_t kBillion = 1'000'000'000;

// arXiv:2412.19437, section 4.2.
LearningRateSchedule deepseek_v3() {
  return {2.2e-4,
          2000,
          std::nullopt,
          {{PhaseKind::kConstant, std::nullopt, 10 * kTrillion, std::nullopt},
           {PhaseKind::kCosine, std::nullopt, 14'300 * kBillion, 2.2e-5},
           {PhaseKind::kConstant, std::nullopt, 14'633 * kBillion, std::nullopt},
           {PhaseKind::kConstant, std::nullopt, 14'800 * kBillion, 7.3e-6}}};
}

}  // namespace

TEST_CASE("The V3 schedule takes the published rates at the published tokens") {
  const LearningRateSchedule schedule = deepseek_v3();
  const std::int64_t step_tokens = 15360 * 4096;
  const auto after = [&](std::int64_t tokens) {
    return schedule.at({200'000, tokens - step_tokens}, step_tokens);
  };
  CHECK(schedule.at({0, 0}, step_tokens) == Approx(2.2e-4 / 2000));
  CHECK(schedule.at({999, 999 * step_tokens}, step_tokens) == Approx(1.1e-4));
  CHECK(schedule.at({1999, 1999 * step_tokens}, step_tokens) == Approx(2.2e-4));
  CHECK(after(9 * kTrillion) == Approx(2.2e-4));
  CHECK(after(12'150 * kBillion) == Approx((2.2e-4 + 2.2e-5) / 2));  // half-way down the cosine
  CHECK(after(14'300 * kBillion) == Approx(2.2e-5));
  CHECK(after(14'500 * kBillion) == Approx(2.2e-5));
  CHECK(after(14'700 * kBillion) == Approx(7.3e-6));
  CHECK(after(15'000 * kBillion) == Approx(7.3e-6));
}

TEST_CASE("Step decay multiplies at the given shares of the run, as in V2") {
  const LearningRateSchedule schedule(
      2.4e-4, std::nullopt, std::nullopt,
      {{PhaseKind::kConstant, 60, std::nullopt, std::nullopt},
       {PhaseKind::kConstant, 90, std::nullopt, 2.4e-4 * 0.316},
       {PhaseKind::kConstant, 100, std::nullopt, 2.4e-4 * 0.316 * 0.316}});
  CHECK(schedule.at({59, 0}, 1) == Approx(2.4e-4));
  CHECK(schedule.at({60, 0}, 1) == Approx(2.4e-4 * 0.316));
  CHECK(schedule.at({90, 0}, 1) == Approx(2.4e-4 * 0.316 * 0.316));
}

TEST_CASE("A warm-up by tokens is linear in tokens, and linear phases end at their rate") {
  const LearningRateSchedule schedule(1.0, std::nullopt, 1000,
                                      {{PhaseKind::kLinear, std::nullopt, 2000, 0.5}});
  CHECK(schedule.at({0, 0}, 100) == Approx(0.1));
  CHECK(schedule.at({5, 400}, 100) == Approx(0.5));
  CHECK(schedule.at({9, 900}, 100) == Approx(1.0));
  CHECK(schedule.at({14, 1400}, 100) == Approx(0.75));
  CHECK(schedule.at({30, 3000}, 100) == Approx(0.5));
}

TEST_CASE("The batch ramp grows linearly with tokens in whole multiples") {
  const BatchRamp ramp{3072, 15360, 469 * kBillion, 256};
  CHECK(global_batch_size(ramp, 0) == 3072);
  CHECK(global_batch_size(ramp, 469 * kBillion / 2) == 9216);
  CHECK(global_batch_size(ramp, 469 * kBillion - 1) % 256 == 0);
  CHECK(global_batch_size(ramp, 469 * kBillion) == 15360);
  CHECK(global_batch_size({0, 8, 0, 1}, 0) == 8);
}
