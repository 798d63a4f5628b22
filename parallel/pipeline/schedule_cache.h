#pragma once

#include <functional>
#include <map>

#include "parallel/pipeline/schedule.h"

namespace fathom::parallel {

// What the executor takes, by number of micro-batches; each is made once.
class ScheduleCache {
 public:
  // The computations alone.
  using Make = std::function<Schedule(int num_micro_batches)>;
  explicit ScheduleCache(Make make) : make_(std::move(make)) {}

  // Throws what make_executable() and the maker throw.
  const Schedule& at(int num_micro_batches) {
    auto found = made_.find(num_micro_batches);
    if (found == made_.end()) {
      found = made_.emplace(num_micro_batches, make_executable(make_(num_micro_batches))).first;
    }
    return found->second;
  }

 private:
  Make make_;
  std::map<int, Schedule> made_;
};

}  // namespace fathom::parallel
