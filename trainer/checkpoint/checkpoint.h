#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/state_visitor.h"

namespace fathom::trainer {

// Checkpoints of a run, on disk as docs/checkpoint-format.md says: ROOT/step-NNNNNNNN/ with one
// HDF5 file a rank and manifest.pb. A checkpoint exists when its folder has that name; it gets it
// by one rename, after every byte is on disk and was read back.

// One traversal of all state of this rank. Called more than once by a save; each time it must show
// the same slices in the same order.
using VisitState = std::function<void(parallel::StateVisitor&)>;

// What a checkpoint belongs to.
struct CheckpointIdentity {
  std::string program_version;
  std::string tokenizer_hash;
  // The resolved config; differences do not keep a checkpoint from loading.
  std::string config_text;
  std::vector<std::pair<std::string, std::string>> model;  // e.g. {"hidden_size", "256"}
  // A hash of what each of the config's data.train held; empty where none was used or it was not
  // looked at. A difference does not keep a checkpoint from loading.
  std::vector<std::string> data_contents = {};

  bool operator==(const CheckpointIdentity&) const = default;
};

struct CheckpointOptions {
  std::filesystem::path root{};  // RUN/checkpoints
  // After a save, older checkpoints than the last so many are removed; 0: none.
  std::int64_t keep_last = 0;
  std::int64_t max_manifest_bytes = std::int64_t{256} << 20;
  // A rank syncs its file whenever it has written so much, so that no single sync takes longer than
  // a watchdog waits.
  std::int64_t sync_bytes = std::int64_t{1} << 30;
  // Bytes done and bytes in all of this rank's part, slice by slice: a save counts what it writes
  // and what it reads back. May be empty.
  std::function<void(std::int64_t done, std::int64_t total)> progress{};
  // What a run should know but need not stop for, e.g. an old checkpoint that could not be removed.
  // May be empty.
  std::function<void(const std::string&)> warn{};
  // Called as each phase of a save begins, with its name, a literal: for a watchdog to show; tests
  // throw or kill there. May be empty.
  std::function<void(const char* phase)> begin_phase{};
  // Asked before a load compares the state: may throw a ConfigError that says more than tensors
  // that differ would. May be empty.
  std::function<void(const CheckpointIdentity& stored)> check_identity{};
};

// Collective over `world`, all ranks or none: every rank returns when the checkpoint is published
// and durable, or every rank throws the same error, which names the first rank that failed, and
// only what this save had written is removed. Owned slices must cover every visited tensor exactly
// (InternalError). IoError: the disk. A checkpoint of the same step is replaced.
void save_checkpoint(const CheckpointOptions& options, std::int64_t step, const VisitState& state,
                     const CheckpointIdentity& identity, parallel::Communicator& world);

enum class LoadScope {
  kEverything,  // the state must ask for every tensor of the checkpoint
  kPart         // e.g. the weights alone, to start a new stage
};

// Collective over `world`, on any layout. Reads only the slices that overlap what `state` shows and
// checks their checksums. Every rank throws the same error: ConfigError when the checkpoint is
// damaged (names file and tensor and offers the checkpoint before), is of another model (shows the
// fields that differ; tokenizer_hash is compared when expected.tokenizer_hash is not empty) or of a
// newer format; IoError when it cannot be read. The state is then partly overwritten and must not
// be used. Returns what the checkpoint says that it belongs to.
CheckpointIdentity load_checkpoint(const CheckpointOptions& options, std::int64_t step,
                                   const VisitState& state, const CheckpointIdentity& expected,
                                   parallel::Communicator& world,
                                   LoadScope scope = LoadScope::kEverything);

// Steps of the published checkpoints, ascending; nothing when there is no such folder.
std::vector<std::int64_t> list_checkpoints(const std::filesystem::path& root);
std::optional<std::int64_t> latest_checkpoint(const std::filesystem::path& root);

// ROOT/step-NNNNNNNN.
std::filesystem::path checkpoint_folder(const std::filesystem::path& root, std::int64_t step);

// Reads every byte of one checkpoint. Throws as load_checkpoint does.
void verify_checkpoint(const CheckpointOptions& options, std::int64_t step);

// Removes leftovers of saves that died, and the checkpoints before the `keep_last` (at least 1)
// newest of those up to `newest_step`. Removes a folder only when its name is ours, it holds
// nothing but what a checkpoint holds, its manifest (published ones) says so, and nobody is reading
// or writing it; returns why others were left.
std::vector<std::string> prune_checkpoints(const std::filesystem::path& root,
                                           std::int64_t keep_last, std::int64_t newest_step);

}  // namespace fathom::trainer
