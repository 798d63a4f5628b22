#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/shard_file.h"

namespace fathom::trainer {

// The names in a folder of checkpoints: "step-00000200" is published;
// "step-00000200.tmp-0123456789abcdef" is being written or removed.
std::string folder_name(std::int64_t step);
std::optional<std::int64_t> step_of_folder(std::string_view name);
std::string temporary_name(std::int64_t step, std::uint64_t nonce);
std::uint64_t make_nonce();

// Held on a temporary folder while a save writes to it, so that nobody takes it for a leftover.
class FolderLock {
 public:
  FolderLock() = default;
  // Not held when the folder is locked or gone.
  explicit FolderLock(const std::filesystem::path& folder);
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&& other) noexcept;
  ~FolderLock();
  bool is_held() const noexcept { return descriptor_ >= 0; }

 private:
  int descriptor_ = -1;
};

// Gives the finished temporary folder its published name, durably; a checkpoint that has it already
// is exchanged for it in one step, and removed. Returns why the replaced one was left, if it was.
std::optional<std::string> publish(const std::filesystem::path& temporary,
                                   const std::filesystem::path& published);

// Removes a published checkpoint unless it holds anything else, somebody reads it, or the file
// system refuses: then returns why it was left.
std::optional<std::string> remove_published(const std::filesystem::path& root, std::int64_t step);
// Removes a temporary folder that holds nothing but what a checkpoint holds. Returns why it, or
// what is still in it, was left.
std::optional<std::string> remove_temporary(const std::filesystem::path& folder);
// Removes those that died saves left behind; returns why others were left.
std::vector<std::string> remove_leftovers(const std::filesystem::path& root);

// The checkpoint folder that a user means: `path`, when it holds a manifest, else the newest
// checkpoint of a run folder or of a folder of checkpoints. Without a slash at the end. None when
// there is no such thing.
std::optional<std::filesystem::path> find_checkpoint(const std::filesystem::path& path);
// The folder of checkpoints when `path` is one, or a run folder that has one; else none.
std::optional<std::filesystem::path> checkpoints_of_run(const std::filesystem::path& path);

// An open manifest of a published checkpoint. While it lives, nobody prunes the checkpoint.
struct OpenCheckpoint {
  std::filesystem::path folder;
  ShardFile manifest_file;
  Manifest manifest;
};
// Throws Damage, ConfigError (there is no such checkpoint, newer format) or IoError.
OpenCheckpoint open_checkpoint(const std::filesystem::path& root, std::int64_t step,
                               std::int64_t max_manifest_bytes);

}  // namespace fathom::trainer
