#include "trainer/checkpoint/catalog.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <random>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/file.h"

namespace fathom::trainer {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStart = "step-";
constexpr std::string_view kTemporary = ".tmp-";
constexpr std::size_t kNonceDigits = 16;

// "step-00000200.tmp-0123456789abcdef"
bool is_temporary_name(std::string_view name) {
  const std::size_t mark = name.find(kTemporary);
  if (mark == std::string_view::npos || !step_of_folder(name.substr(0, mark))) {
    return false;
  }
  const std::string_view nonce = name.substr(mark + kTemporary.size());
  return nonce.size() == kNonceDigits &&
         nonce.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_file_of_ours(const fs::directory_entry& entry) {
  std::error_code error;
  const std::string name = entry.path().filename().string();
  const bool is_known =
      is_shard_name(name) || name == kManifestName || name == concat(kManifestName, ".tmp");
  return is_known && entry.symlink_status(error).type() == fs::file_type::regular && !error;
}

std::vector<fs::directory_entry> entries_of(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::directory_entry> entries;
  for (fs::directory_iterator i(folder, error), end; !error && i != end; i.increment(error)) {
    entries.push_back(*i);
  }
  if (error) {
    throw_io_error("list", folder, error.value());
  }
  return entries;
}

// What an NFS client leaves of a file that is removed while it is open here; it goes when that is
// closed.
bool is_open_remnant(const fs::directory_entry& entry) {
  return entry.path().filename().string().starts_with(".nfs");
}

// Why nothing may be removed here; empty when all is ours.
std::string foreign_content(const fs::path& folder) {
  std::error_code error;
  if (fs::symlink_status(folder, error).type() != fs::file_type::directory || error) {
    return "is no folder";
  }
  for (const fs::directory_entry& entry : entries_of(folder)) {
    if (!is_file_of_ours(entry) && !is_open_remnant(entry)) {
      return concat("holds ", entry.path().filename().string(), ", which is not of a checkpoint");
    }
  }
  return "";
}

// The manifest goes first: a folder without one is nobody's checkpoint. `manifest` is its open
// file, if there is one, and is closed before the folder goes.
void remove_files(const fs::path& folder, std::optional<ShardFile> manifest) {
  std::error_code error;
  const auto remove = [&](const fs::path& path) {
    fs::remove(path, error);
    if (error) {
      throw_io_error("remove", path, error.value());
    }
  };
  remove(folder / kManifestName);
  for (const fs::directory_entry& entry : entries_of(folder)) {
    if (!is_open_remnant(entry)) {
      remove(entry.path());
    }
  }
  manifest.reset();
  remove(folder);
}

// What the file system refuses is a reason for a folder to be left, too.
template <class Remove>
std::optional<std::string> reason_of(const fs::path& folder, Remove remove) {
  try {
    const std::string why = remove();
    return why.empty() ? std::nullopt : std::optional(concat(folder.string(), " is left: ", why));
  } catch (const IoError& error) {
    return concat(folder.string(), " is left: ", error.message());
  }
}

bool exchange(const fs::path& a, const fs::path& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

}  // namespace

std::string folder_name(std::int64_t step) { return numbered_name(kStart, step); }

std::optional<std::int64_t> step_of_folder(std::string_view name) {
  if (!name.starts_with(kStart)) {
    return std::nullopt;
  }
  const std::string_view digits = name.substr(kStart.size());
  std::int64_t step = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  const bool is_whole = error == std::errc() && end == digits.data() + digits.size();
  return is_whole && step >= 0 && folder_name(step) == name ? std::optional(step) : std::nullopt;
}

std::string temporary_name(std::int64_t step, std::uint64_t nonce) {
  char digits[kNonceDigits + 1];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(nonce));
  return concat(folder_name(step), kTemporary, digits);
}

std::uint64_t make_nonce() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

FolderLock::FolderLock(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (descriptor < 0) {
    return;
  }
  // A file system that cannot lock leaves it to the lock of the run folder; so does NFS, which
  // locks only what is open for writing, as no folder is.
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(descriptor);
    return;
  }
  descriptor_ = descriptor;
}

FolderLock::FolderLock(FolderLock&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

FolderLock& FolderLock::operator=(FolderLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

FolderLock::~FolderLock() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

fs::path checkpoint_folder(const fs::path& root, std::int64_t step) {
  return root / folder_name(step);
}

std::vector<std::int64_t> list_checkpoints(const fs::path& root) {
  std::vector<std::int64_t> steps;
  std::error_code error;
  if (!fs::exists(root, error)) {
    return steps;
  }
  for (const fs::directory_entry& entry : entries_of(root)) {
    const auto step = step_of_folder(entry.path().filename().string());
    if (step && entry.is_directory(error)) {
      steps.push_back(*step);
    }
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::optional<std::int64_t> latest_checkpoint(const fs::path& root) {
  const std::vector<std::int64_t> steps = list_checkpoints(root);
  return steps.empty() ? std::nullopt : std::optional(steps.back());
}

std::optional<fs::path> checkpoints_of_run(const fs::path& path) {
  for (const fs::path& root : {path, path / "checkpoints"}) {
    if (!list_checkpoints(root).empty()) {
      return root;
    }
  }
  return std::nullopt;
}

std::optional<fs::path> find_checkpoint(const fs::path& path) {
  std::error_code error;
  if (fs::exists(path / kManifestName, error)) {
    return path.has_filename() ? path : path.parent_path();
  }
  const std::optional<fs::path> root = checkpoints_of_run(path);
  return root ? std::optional(checkpoint_folder(*root, *latest_checkpoint(*root))) : std::nullopt;
}

std::optional<std::string> publish(const fs::path& temporary, const fs::path& published) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(published, error))) {
    rename_durably(temporary, published);
    return std::nullopt;
  }
  if (exchange(temporary, published)) {
    sync_folder(published.parent_path());
    return remove_temporary(temporary);
  }
  // No exchange on this file system: the old one steps aside under another temporary name.
  const fs::path aside =
      published.parent_path() /
      temporary_name(*step_of_folder(published.filename().string()), make_nonce());
  rename_durably(published, aside);
  rename_durably(temporary, published);
  return remove_temporary(aside);
}

// For writing, which is how NFS wants a file open that is locked exclusively.
std::optional<std::string> remove_published(const fs::path& root, std::int64_t step) {
  const fs::path folder = checkpoint_folder(root, step);
  return reason_of(folder, [&]() -> std::string {
    if (const std::string why = foreign_content(folder); !why.empty()) {
      return "it " + why;
    }
    ShardFile manifest = ShardFile::open_for_writing(folder / kManifestName);
    if (!manifest.try_lock_exclusive()) {
      return "it is being read";
    }
    // Out of sight under a temporary name first, so that nobody ever finds a half removed
    // checkpoint.
    const fs::path aside = root / temporary_name(step, make_nonce());
    rename_durably(folder, aside);
    remove_files(aside, std::move(manifest));
    return "";
  });
}

std::optional<std::string> remove_temporary(const fs::path& folder) {
  return reason_of(folder, [&]() -> std::string {
    if (const std::string why = foreign_content(folder); !why.empty()) {
      return "it " + why;
    }
    std::error_code error;
    std::optional<ShardFile> manifest;
    if (fs::exists(folder / kManifestName, error)) {
      // Somebody may have opened it under the name that it had.
      manifest = ShardFile::open_for_writing(folder / kManifestName);
      if (!manifest->try_lock_exclusive()) {
        return "it is being read";
      }
    }
    remove_files(folder, std::move(manifest));
    return "";
  });
}

std::vector<std::string> remove_leftovers(const fs::path& root) {
  std::vector<std::string> left;
  std::error_code error;
  if (!fs::exists(root, error)) {
    return left;
  }
  for (const fs::directory_entry& entry : entries_of(root)) {
    if (!is_temporary_name(entry.path().filename().string())) {
      continue;
    }
    const FolderLock lock(entry.path());
    if (!lock.is_held()) {
      left.push_back(concat(entry.path().string(), " is left: it is being written"));
    } else if (auto why = remove_temporary(entry.path())) {
      left.push_back(*std::move(why));
    }
  }
  return left;
}

OpenCheckpoint open_checkpoint(const fs::path& root, std::int64_t step,
                               std::int64_t max_manifest_bytes) {
  const fs::path folder = checkpoint_folder(root, step);
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    std::string have;
    for (const std::int64_t other : list_checkpoints(root)) {
      have += concat(have.empty() ? "" : ", ", other);
    }
    throw ConfigError(concat("no checkpoint of step ", step, " in ", root.string(),
                             have.empty() ? "; there is none" : concat("; there are ", have)));
  }
  // A folder is renamed before anything in it is removed.
  const auto removed = [&folder] {
    return IoError(concat(folder.string(), " was removed while it was opened"));
  };
  if (!fs::exists(folder / kManifestName, error)) {
    if (!fs::is_directory(folder, error)) {
      throw removed();
    }
    throw Damage(concat(kManifestName, " is missing"));
  }
  OpenCheckpoint checkpoint = [&] {
    try {
      return OpenCheckpoint{.folder = folder,
                            .manifest_file = ShardFile::open_for_reading(folder / kManifestName),
                            .manifest = {}};
    } catch (const IoError&) {
      if (!fs::is_directory(folder, error)) {
        throw removed();
      }
      throw;
    }
  }();
  const ShardFile& file = checkpoint.manifest_file;
  if (!file.try_lock_shared() || file.is_deleted()) {
    throw removed();
  }
  const std::int64_t size = file.size_bytes();
  if (size > max_manifest_bytes) {
    throw Damage(
        concat(kManifestName, " has ", size, " bytes; at most ", max_manifest_bytes, " are read"));
  }
  std::string bytes(static_cast<std::size_t>(size), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(bytes)));
  checkpoint.manifest = parse_manifest(bytes);
  if (checkpoint.manifest.step != step) {
    throw Damage(concat(kManifestName, " is of step ", checkpoint.manifest.step));
  }
  return checkpoint;
}

}  // namespace fathom::trainer
