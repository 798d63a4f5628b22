#include "parallel/pipeline/schedule_cache.h"

#include "core/error.h"
#include "tests/support/catch.h"

using namespace fathom;
using namespace fathom::parallel;

TEST_CASE("Executable schedules have their messages, are made once, and are whole or refused") {
  int num_made = 0;
  ScheduleCache schedules([&](int num_micro_batches) {
    ++num_made;
    return one_forward_one_backward(2, num_micro_batches);
  });
  CHECK(to_string(schedules.at(3)) == to_string(add_communication(one_forward_one_backward(2, 3))));
  CHECK(&schedules.at(3) == &schedules.at(3));
  CHECK(schedules.at(1).num_micro_batches == 1);
  CHECK(num_made == 2);
  Schedule cut = one_forward_one_backward(2, 2);
  cut.actions[1].pop_back();
  CHECK_THROWS_AS(make_executable(cut), ConfigError);
}
