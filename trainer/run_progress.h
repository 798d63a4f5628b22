#pragma once

#include <cstdint>

#include "parallel/state_visitor.h"

namespace fathom::trainer {

// Where a run stands: beside weights and optimizer all that a resume needs, since data and random
// numbers are functions of it.
struct RunProgress {
  std::int64_t step = 0;     // optimizer steps done, skipped ones included
  std::int64_t tokens = 0;   // seen
  std::int64_t samples = 0;  // sequences seen: the next global sample index
  std::int64_t skipped_steps = 0;
  std::int64_t skipped_in_a_row = 0;

  void visit_state(parallel::StateVisitor& visitor) {
    visitor.integer("progress.step", step);
    visitor.integer("progress.tokens", tokens);
    visitor.integer("progress.samples", samples);
    visitor.integer("progress.skipped_steps", skipped_steps);
    visitor.integer("progress.skipped_in_a_row", skipped_in_a_row);
  }
};

}  // namespace fathom::trainer
