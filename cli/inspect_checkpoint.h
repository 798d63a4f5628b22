#pragma once

#include <filesystem>
#include <ostream>

#include "trainer/checkpoint/manifest.h"

namespace fathom::cli {

// Whether `path` is a folder with a manifest.
bool is_checkpoint(const std::filesystem::path& path);

// What a published checkpoint says of itself. Throws ConfigError naming the folder when it is
// damaged, or is not one of ours.
trainer::Manifest read_manifest(const std::filesystem::path& folder);

struct CheckpointInspection {
  bool lists_tensors = false;
  bool verifies = false;
};
// Throws ConfigError naming the folder when the checkpoint is damaged, or is not one of ours.
void print_checkpoint(const std::filesystem::path& folder, const CheckpointInspection& inspection,
                      std::ostream& out);
// The published checkpoints, a line each.
void print_checkpoint_list(const std::filesystem::path& root, std::ostream& out);

}  // namespace fathom::cli
