#pragma once

#include "configs/schema/run.pb.h"

namespace fathom::config {

// How the program was started.
struct Launch {
  int world_size = 1;      // ranks; 0: not started yet, the config's own mesh decides (--dry_run)
  int ranks_per_node = 1;  // on this node
  int cores_per_node = 1;  // that this node lends to the job
};

// Fills in what follows from the rest, where it is absent: mesh.data, run.threads,
// checkpoint.directory, data.seed, model.max_position, batch_ramp.increment, numerics, and on CUDA
// optimizer.parameter_dtype (BFLOAT16) and optimizer.master_weights. mesh.data stays 0 when
// the ranks are no multiple of pipeline x tensor; validate() reports that.
void resolve(RunConfig& config, const Launch& launch);

}  // namespace fathom::config
