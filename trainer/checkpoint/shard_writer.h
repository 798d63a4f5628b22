#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/hdf5_file.h"
#include "trainer/checkpoint/manifest.h"

namespace fathom::trainer {

// What one traversal of a rank's state shows, without the elements.
struct StatePlan {
  std::vector<Dataset> owned;       // in the order of the traversal, without empty ones
  std::vector<StoredTensor> shown;  // every tensor shown, once, without slices
  std::vector<std::pair<std::string, std::int64_t>> integers;
};
// Throws InternalError where a slice does not fit its tensor or is shown twice.
StatePlan plan_state(const VisitState& state);

// Writes the owned slices into a new file of `folder`, durably, and reads all of it back. Returns
// this rank's part of the manifest: its one file, its integers and every tensor shown, with the
// slices that it wrote.
Manifest write_shard(const CheckpointOptions& options, const std::filesystem::path& folder,
                     int rank, const VisitState& state);

}  // namespace fathom::trainer
