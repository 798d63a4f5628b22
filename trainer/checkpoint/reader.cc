#include <algorithm>
#include <optional>
#include <utility>

#include "core/error.h"
#include "parallel/comm/agree.h"
#include "parallel/comm/sums.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/comparison.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/shard_reader.h"

namespace fathom::trainer {
namespace {

std::string offer_previous(const std::filesystem::path& root, std::int64_t step) {
  std::vector<std::int64_t> steps;
  try {
    steps = list_checkpoints(root);
  } catch (const IoError&) {  // what led here is to be told, and not this
    return "resume from one before with --resume STEP";
  }
  std::erase_if(steps, [&](std::int64_t other) { return other >= step; });
  return steps.empty() ? "there is no checkpoint before it"
                       : concat("resume from the one before with --resume ", steps.back());
}

// Runs body; what it finds damaged, or cannot read, becomes a message to the user, with the way
// out.
template <class Body>
void explain_damage(const CheckpointOptions& options, std::int64_t step, Body body) {
  try {
    body();
  } catch (const Damage& damage) {
    throw ConfigError(concat("checkpoint ", folder_name(step), " is damaged: ", damage.what(), "; ",
                             offer_previous(options.root, step)));
  } catch (const IoError& error) {
    throw IoError(concat("checkpoint ", folder_name(step), " cannot be read: ", error.message(),
                         "; if that stays so, ", offer_previous(options.root, step)),
                  error.system_error());
  }
}

class SliceLoader : public parallel::StateVisitor {
 public:
  SliceLoader(const CheckpointOptions& options, const Manifest& manifest, ShardReader& reader,
              std::int64_t total_bytes)
      : options_(options), manifest_(manifest), reader_(reader), total_(total_bytes) {}

  Access access() const noexcept override { return Access::kWrite; }

  void tensor(const parallel::StateSlice& slice, Tensor& local) override {
    const StoredTensor* stored = manifest_.find(slice.key);
    FATHOM_CHECK(stored != nullptr && local.device().type == DeviceType::kCpu, slice.key, " on ",
                 local.device());
    reader_.read(*stored,
                 {.row_begin = slice.row_begin,
                  .num_rows = slice.num_rows,
                  .column_begin = slice.column_begin,
                  .num_columns = slice.num_columns},
                 {local.raw(), static_cast<std::size_t>(local.size_bytes())});
    done_ += local.size_bytes();
    if (options_.progress) {
      options_.progress(done_, total_);
    }
  }

  void integer(const std::string& key, std::int64_t& value) override {
    for (const auto& [name, stored] : manifest_.integers) {
      if (name == key) {
        value = stored;
      }
    }
  }

 private:
  const CheckpointOptions& options_;
  const Manifest& manifest_;
  ShardReader& reader_;
  std::int64_t done_ = 0;
  const std::int64_t total_;
};

// Bytes that a state shows.
class ByteCount : public parallel::StateVisitor {
 public:
  Access access() const noexcept override { return Access::kLook; }
  void tensor(const parallel::StateSlice&, Tensor& local) override { bytes_ += local.size_bytes(); }
  void integer(const std::string&, std::int64_t&) override {}
  std::int64_t bytes() const noexcept { return bytes_; }

 private:
  std::int64_t bytes_ = 0;
};

class Loader {
 public:
  Loader(const CheckpointOptions& options, std::int64_t step, parallel::Communicator& world)
      : options_(options), step_(step), world_(world) {}

  void run(const VisitState& state, const CheckpointIdentity& expected, LoadScope scope) {
    agree_explained([&] { open(expected); });
    parallel::agree(world_, [&] { check_same_manifest(); });
    std::vector<std::int64_t> asked_for;
    std::int64_t num_owned = 0;
    parallel::agree(world_, [&] {
      refuse(compare_state(checkpoint_->manifest, state, scope, asked_for, num_owned));
    });
    if (scope == LoadScope::kEverything) {
      parallel::agree(world_, [&] { check_all_asked_for(asked_for, num_owned); });
    }
    agree_explained([&] {
      ByteCount count;
      if (options_.progress) {
        state(count);
      }
      SliceLoader loader(options_, checkpoint_->manifest, *reader_, count.bytes());
      state(loader);
    });
  }

  const CheckpointIdentity& identity() const { return checkpoint_->manifest.identity; }

 private:
  template <class Body>
  void agree_explained(Body body) {
    parallel::agree(world_, [&] { explain_damage(options_, step_, body); });
  }

  void open(const CheckpointIdentity& expected) {
    checkpoint_ = open_checkpoint(options_.root, step_, options_.max_manifest_bytes);
    reader_.emplace(*checkpoint_);
    if (world_.rank() == 0) {
      reader_->check_folder();
    }
    refuse(compare_identity(checkpoint_->manifest.identity, expected));
    if (options_.check_identity) {
      options_.check_identity(checkpoint_->manifest.identity);
    }
  }

  void refuse(const std::vector<std::string>& differences) const {
    if (!differences.empty()) {
      throw ConfigError(concat("checkpoint ", folder_name(step_), " in ", options_.root.string(),
                               " is of another model:", list_differences(differences),
                               "\nGive the config the checkpoint's values, or name another "
                               "checkpoint or run folder"));
    }
  }

  // Nodes that do not share the file system may each see a folder of their own.
  void check_same_manifest() {
    data::Checksum64 checksum;
    for (const StoredFile& file : checkpoint_->manifest.files) {
      checksum.add(std::as_bytes(std::span(&file.checksum, 1)));
    }
    const auto mine = static_cast<std::int64_t>(checksum.value());
    std::vector<std::int64_t> all(static_cast<std::size_t>(world_.world_size()));
    world_.all_gather_integers(std::span(&mine, 1), all);
    const auto other = std::find_if(all.begin(), all.end(),
                                    [&](std::int64_t value) { return value != all.front(); });
    if (other != all.end()) {
      throw ConfigError(concat("rank ", other - all.begin(), " sees another checkpoint ",
                               folder_name(step_), " in ", options_.root.string(),
                               " than rank 0: all nodes must share this folder"));
    }
  }

  void check_all_asked_for(const std::vector<std::int64_t>& asked_for, std::int64_t num_owned) {
    std::int64_t difference = parallel::sum_integers(std::span(&num_owned, 1), world_).front();
    for (const StoredTensor& tensor : checkpoint_->manifest.tensors) {
      difference -= tensor.global_shape.numel();
    }
    if (difference == 0) {
      return;
    }
    const auto num_ranks = static_cast<std::size_t>(world_.world_size());
    std::vector<std::int64_t> all(num_ranks * asked_for.size());
    world_.all_gather_integers(asked_for, all);
    std::vector<std::string> unused;
    for (std::size_t i = 0; i < checkpoint_->manifest.tensors.size(); ++i) {
      bool is_asked_for = false;
      for (std::size_t rank = 0; rank < num_ranks; ++rank) {
        const std::int64_t word = all[rank * asked_for.size() + i / 64];
        is_asked_for = is_asked_for || ((word >> (i % 64)) & 1) != 0;
      }
      if (!is_asked_for) {
        unused.push_back(concat(checkpoint_->manifest.tensors[i].key, ": in the checkpoint only"));
      }
    }
    refuse(unused);
    throw InternalError(concat("the ranks own ", difference, " elements more than checkpoint ",
                               folder_name(step_), " holds"));
  }

  const CheckpointOptions& options_;
  const std::int64_t step_;
  parallel::Communicator& world_;
  std::optional<OpenCheckpoint> checkpoint_;
  std::optional<ShardReader> reader_;
};

}  // namespace

CheckpointIdentity load_checkpoint(const CheckpointOptions& options, std::int64_t step,
                                   const VisitState& state, const CheckpointIdentity& expected,
                                   parallel::Communicator& world, LoadScope scope) {
  Loader loader(options, step, world);
  loader.run(state, expected, scope);
  return loader.identity();
}

void verify_checkpoint(const CheckpointOptions& options, std::int64_t step) {
  explain_damage(options, step, [&] {
    const OpenCheckpoint checkpoint =
        open_checkpoint(options.root, step, options.max_manifest_bytes);
    ShardReader reader(checkpoint);
    reader.check_folder();
    std::int64_t done = 0, total = 0;
    for (const StoredFile& file : checkpoint.manifest.files) {
      total += file.size_bytes;
    }
    for (std::size_t i = 0; i < checkpoint.manifest.files.size(); ++i) {
      reader.check_file(i);
      done += checkpoint.manifest.files[i].size_bytes;
      if (options.progress) {
        options.progress(done, total);
      }
    }
  });
}

}  // namespace fathom::trainer
