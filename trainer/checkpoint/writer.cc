#include <cerrno>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "parallel/comm/agree.h"
#include "parallel/comm/gather_bytes.h"
#include "parallel/comm/sums.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/shard_writer.h"

namespace fathom::trainer {
namespace {

// Puts the ranks' parts together. InternalError where they contradict each other or leave a hole:
// then some layer's state is not what it says.
class Merger {
 public:
  explicit Merger(Manifest& manifest) : manifest_(manifest) {}

  void add(Manifest part, int rank) {
    if (rank == 0) {
      manifest_.integers = part.integers;
    }
    FATHOM_CHECK(part.integers == manifest_.integers, "rank ", rank,
                 " has other integers in its state than rank 0: ", difference(part));
    FATHOM_CHECK(part.files.size() == 1, part.files.size(), " files from rank ", rank);
    manifest_.files.push_back(part.files.front());
    for (StoredTensor& tensor : part.tensors) {
      add_tensor(std::move(tensor), rank);
    }
  }

  void finish() {
    for (auto& [key, tensor] : tensors_) {
      manifest_.tensors.push_back(std::move(tensor));
    }
    try {
      validate(manifest_);
    } catch (const Damage& damage) {
      throw InternalError(concat("the ranks' states do not make a whole: ", damage.what()));
    }
  }

 private:
  void add_tensor(StoredTensor tensor, int rank) {
    for (StoredSlice& slice : tensor.slices) {
      slice.file = rank;
    }
    const auto [found, is_new] = tensors_.try_emplace(tensor.key);
    StoredTensor& known = found->second;
    if (is_new) {
      known = std::move(tensor);
      return;
    }
    FATHOM_CHECK(known.global_shape == tensor.global_shape && known.dtype == tensor.dtype,
                 tensor.key, " is ", tensor.dtype, " ", tensor.global_shape, " on rank ", rank,
                 ", ", known.dtype, " ", known.global_shape, " on another");
    known.slices.insert(known.slices.end(), tensor.slices.begin(), tensor.slices.end());
  }

  std::string difference(const Manifest& part) const {
    if (part.integers.size() != manifest_.integers.size()) {
      return concat(part.integers.size(), " and not ", manifest_.integers.size());
    }
    for (std::size_t i = 0; i < part.integers.size(); ++i) {
      if (part.integers[i] != manifest_.integers[i]) {
        return concat(part.integers[i].first, " = ", part.integers[i].second, " and not ",
                      manifest_.integers[i].first, " = ", manifest_.integers[i].second);
      }
    }
    return "none";
  }

  Manifest& manifest_;
  std::map<std::string, StoredTensor> tensors_;
};

class Saver {
 public:
  Saver(const CheckpointOptions& options, std::int64_t step, parallel::Communicator& world)
      : options_(options),
        step_(step),
        world_(world),
        temporary_(options.root / temporary_name(step, agree_on_nonce(world))) {
    FATHOM_CHECK(step >= 0, step);
  }

  void run(const VisitState& state, const CheckpointIdentity& identity) {
    try {
      on_rank_0([&] { create_folder(); });
      write(state, identity);
    } catch (const CommError&) {
      throw;  // others may still be writing; the next save removes what is left
    } catch (...) {
      remove_own_folder();
      throw;
    }
    if (world_.rank() == 0 && options_.keep_last > 0) {
      prune();
    }
  }

 private:
  static std::uint64_t agree_on_nonce(parallel::Communicator& world) {
    const auto mine = static_cast<std::int64_t>(make_nonce());
    return static_cast<std::uint64_t>(parallel::from_rank_0(mine, world));
  }

  void on_rank_0(const std::function<void()>& body) {
    parallel::agree(world_, [&] {
      if (world_.rank() == 0) {
        body();
      }
    });
  }

  void begin(const char* phase) const {
    if (options_.begin_phase) {
      options_.begin_phase(phase);
    }
  }

  void warn(const std::string& message) const {
    if (options_.warn) {
      options_.warn(message);
    }
  }

  void create_folder() {
    begin("write checkpoint: create folder");
    std::error_code error;
    std::filesystem::create_directories(options_.root, error);
    if (error) {
      throw_io_error("create", options_.root, error.value());
    }
    // Before the new one is written: a save that died may be what fills the disk.
    for (const std::string& message : remove_leftovers(options_.root)) {
      warn(message);
    }
    if (!std::filesystem::create_directory(temporary_, error) || error) {
      throw_io_error("create", temporary_, error ? error.value() : EEXIST);
    }
    lock_ = FolderLock(temporary_);
    sync_folder(options_.root);
  }

  void write(const VisitState& state, const CheckpointIdentity& identity) {
    std::string part;
    parallel::agree(world_, [&] {
      part = serialize_part(write_shard(options_, temporary_, world_.rank(), state));
    });
    const std::vector<std::string> parts = parallel::gather_bytes(part, 0, world_);
    on_rank_0([&] {
      begin("write checkpoint: write manifest");
      write_manifest(merge(parts, identity));
      begin("write checkpoint: publish");
      if (auto why = publish(temporary_, checkpoint_folder(options_.root, step_))) {
        warn(*why);
      }
    });
  }

  Manifest merge(const std::vector<std::string>& parts, const CheckpointIdentity& identity) const {
    Manifest manifest;
    manifest.step = step_;
    manifest.identity = identity;
    Merger merger(manifest);
    for (std::size_t rank = 0; rank < parts.size(); ++rank) {
      merger.add(parse_part(parts[rank]), static_cast<int>(rank));
    }
    merger.finish();
    return manifest;
  }

  void write_manifest(const Manifest& manifest) const {
    const std::string bytes = serialize_manifest(manifest);
    if (static_cast<std::int64_t>(bytes.size()) > options_.max_manifest_bytes) {
      throw IoError(concat("the manifest of step ", step_, " takes ", bytes.size(),
                           " bytes; at most ", options_.max_manifest_bytes, " would be read"));
    }
    const std::filesystem::path path = temporary_ / kManifestName;
    write_file_atomically(path, bytes);
    if (read_file(path) != bytes) {
      throw IoError(concat("write ", path.string(), ": it reads back differently"));
    }
  }

  // Nothing here may hide the error that led here.
  void remove_own_folder() const {
    std::error_code error;
    if (world_.rank() != 0 || !std::filesystem::exists(temporary_, error)) {
      return;
    }
    if (auto why = remove_temporary(temporary_)) {
      warn(*why);
    }
  }

  // The checkpoint is published: whatever happens to old ones is no failure of the save.
  void prune() const {
    begin("write checkpoint: remove old ones");
    try {
      for (const std::string& message :
           prune_checkpoints(options_.root, options_.keep_last, step_)) {
        warn(message);
      }
    } catch (const Error& error) {
      warn(concat("old checkpoints are left: ", error.message()));
    }
  }

  const CheckpointOptions& options_;
  const std::int64_t step_;
  parallel::Communicator& world_;
  const std::filesystem::path temporary_;
  FolderLock lock_;
};

}  // namespace

void save_checkpoint(const CheckpointOptions& options, std::int64_t step, const VisitState& state,
                     const CheckpointIdentity& identity, parallel::Communicator& world) {
  Saver(options, step, world).run(state, identity);
}

}  // namespace fathom::trainer
