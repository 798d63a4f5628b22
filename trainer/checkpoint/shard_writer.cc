#include "trainer/checkpoint/shard_writer.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "core/error.h"
#include "core/file.h"
#include "trainer/checkpoint/shard_file.h"

namespace fathom::trainer {
namespace {

Rectangle rectangle_of(const parallel::StateSlice& slice) {
  return {.row_begin = slice.row_begin,
          .num_rows = slice.num_rows,
          .column_begin = slice.column_begin,
          .num_columns = slice.num_columns};
}

std::span<const std::byte> bytes_of(const Tensor& tensor) {
  return {tensor.raw(), static_cast<std::size_t>(tensor.size_bytes())};
}

void check_slice(const parallel::StateSlice& slice, const Tensor& local) {
  FATHOM_CHECK(is_key(slice.key), "'", slice.key, "' is no valid key of a tensor");
  const Rectangle where = rectangle_of(slice);
  const Rectangle whole = whole_of(slice.global_shape);
  FATHOM_CHECK(where.numel() == 0 || intersection(where, whole) == where, slice.key, " ",
               slice.global_shape, ": ", to_string(where));
  FATHOM_CHECK(local.numel() == where.numel(), slice.key, ": ", local.shape(), " for ",
               to_string(where));
  FATHOM_CHECK(local.device().type == DeviceType::kCpu, slice.key, " is on ", local.device());
}

class Planner : public parallel::StateVisitor {
 public:
  Access access() const noexcept override { return Access::kLook; }
  void tensor(const parallel::StateSlice& slice, Tensor& local) override {
    check_slice(slice, local);
    if (names_.insert(slice.key).second) {
      plan_.shown.push_back({.key = slice.key,
                             .global_shape = slice.global_shape,
                             .dtype = local.dtype(),
                             .slices = {}});
    }
    if (slice.is_owner && local.numel() > 0) {
      Dataset dataset{.key = slice.key,
                      .global_shape = slice.global_shape,
                      .dtype = local.dtype(),
                      .where = rectangle_of(slice)};
      FATHOM_CHECK(paths_.insert(dataset.path()).second, slice.key, " ", to_string(dataset.where),
                   " is shown twice");
      plan_.owned.push_back(std::move(dataset));
    }
  }
  void integer(const std::string& key, std::int64_t& value) override {
    FATHOM_CHECK(is_key(key) && integers_.insert(key).second, "integer '", key,
                 "' is shown twice or no valid key");
    plan_.integers.emplace_back(key, value);
  }
  StatePlan take() { return std::move(plan_); }

 private:
  StatePlan plan_;
  std::set<std::string> names_, paths_, integers_;
};

// Writes the elements of one rank where HDF5 made room for them.
class ElementWriter : public parallel::StateVisitor {
 public:
  ElementWriter(const CheckpointOptions& options, const ShardFile& file,
                const std::vector<Dataset>& datasets)
      : options_(options), file_(file), datasets_(datasets) {
    for (const Dataset& dataset : datasets) {
      total_ += dataset.size_bytes();
    }
  }

  Access access() const noexcept override { return Access::kRead; }
  void tensor(const parallel::StateSlice& slice, Tensor& local) override {
    if (!slice.is_owner || local.numel() == 0) {
      return;
    }
    const std::size_t index = checksums_.size();
    FATHOM_CHECK(index < datasets_.size() && datasets_[index].key == slice.key &&
                     datasets_[index].where == rectangle_of(slice) &&
                     datasets_[index].dtype == local.dtype(),
                 "the state shows ", slice.key, " ", to_string(rectangle_of(slice)),
                 " where it showed something else before");
    check_slice(slice, local);
    begin("write checkpoint: write slice");
    file_.write_at(datasets_[index].file_offset, bytes_of(local));
    checksums_.push_back(data::checksum(bytes_of(local)));
    unsynced_ += local.size_bytes();
    if (unsynced_ >= options_.sync_bytes) {
      sync();
    }
    done_ += local.size_bytes();
    if (options_.progress) {
      options_.progress(done_, 2 * total_);  // the second half is the reading back
    }
  }
  void integer(const std::string&, std::int64_t&) override {}

  void sync() {
    begin("write checkpoint: sync file");
    file_.sync();
    unsynced_ = 0;
  }

  const std::vector<std::uint64_t>& checksums() const {
    FATHOM_CHECK(checksums_.size() == datasets_.size(), "the state shows ", checksums_.size(),
                 " owned slices after ", datasets_.size());
    return checksums_;
  }

 private:
  void begin(const char* phase) const {
    if (options_.begin_phase) {
      options_.begin_phase(phase);
    }
  }

  const CheckpointOptions& options_;
  const ShardFile& file_;
  const std::vector<Dataset>& datasets_;
  std::vector<std::uint64_t> checksums_;
  std::int64_t done_ = 0, total_ = 0, unsynced_ = 0;
};

// Takes the space once, before the library writes anything: it does not tell of a full disk
// reliably.
void check_space(const std::filesystem::path& path, const std::vector<Dataset>& datasets) {
  constexpr std::int64_t kMetadataPerDataset = 1024, kMetadata = 65536;
  std::int64_t bytes = kMetadata;
  for (const Dataset& dataset : datasets) {
    bytes += dataset.size_bytes() + kMetadataPerDataset;
  }
  ShardFile file = ShardFile::create(path);
  file.reserve(bytes);
  file.close();
  std::error_code error;
  std::filesystem::remove(path, error);
  if (error) {
    throw_io_error("remove", path, error.value());
  }
}

// One pass over the file as it now is: the checksum of all of it, of what belongs to no slice, and
// each slice against what was meant to be written.
StoredFile read_back(const CheckpointOptions& options, const ShardFile& file,
                     const Manifest& part) {
  data::Checksum128 whole;
  data::Checksum64 metadata;
  const std::int64_t size = file.size_bytes();
  std::int64_t position = 0;
  const auto read_metadata_up_to = [&](std::int64_t end) {
    for_each_block(file, position, end, [&](std::span<const std::byte> bytes) {
      whole.add(bytes);
      metadata.add(bytes);
    });
  };
  const auto regions = regions_of(part);
  std::int64_t total = 0, done = 0;
  for (const FileRegion& region : regions.front()) {
    total += region.end - region.begin;
  }
  for (const FileRegion& region : regions.front()) {
    read_metadata_up_to(region.begin);
    data::Checksum64 slice;
    for_each_block(file, region.begin, region.end, [&](std::span<const std::byte> bytes) {
      whole.add(bytes);
      slice.add(bytes);
    });
    if (slice.value() != region.slice->checksum) {
      throw IoError(concat("write ", file.path().string(), ": tensor ", region.tensor->key, " ",
                           to_string(region.slice->where), " reads back differently"));
    }
    position = region.end;
    done += region.end - region.begin;
    if (options.progress) {
      options.progress(total + done, 2 * total);
    }
  }
  read_metadata_up_to(size);
  return {.name = file.path().filename().string(),
          .size_bytes = size,
          .checksum = whole.value(),
          .metadata_checksum = metadata.value()};
}

Manifest part_of(StatePlan plan, const std::vector<std::uint64_t>& checksums) {
  Manifest part;
  part.integers = std::move(plan.integers);
  part.files.emplace_back();
  part.tensors = std::move(plan.shown);
  std::sort(part.tensors.begin(), part.tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.key < b.key; });
  for (std::size_t i = 0; i < plan.owned.size(); ++i) {
    const StoredTensor* tensor = part.find(plan.owned[i].key);
    part.tensors[static_cast<std::size_t>(tensor - part.tensors.data())].slices.push_back(
        {.where = plan.owned[i].where,
         .file = 0,
         .file_offset = plan.owned[i].file_offset,
         .checksum = checksums[i]});
  }
  return part;
}

}  // namespace

StatePlan plan_state(const VisitState& state) {
  Planner planner;
  state(planner);
  return planner.take();
}

Manifest write_shard(const CheckpointOptions& options, const std::filesystem::path& folder,
                     int rank, const VisitState& state) {
  const auto begin = [&](const char* phase) {
    if (options.begin_phase) {
      options.begin_phase(phase);
    }
  };
  const std::filesystem::path path = folder / shard_name(rank);
  StatePlan plan = plan_state(state);
  begin("write checkpoint: reserve space");
  check_space(path, plan.owned);
  begin("write checkpoint: create file");
  create_hdf5_file(path, plan.owned);

  ShardFile file = ShardFile::open_for_writing(path);
  file.reserve(file.size_bytes());
  ElementWriter writer(options, file, plan.owned);
  state(writer);
  writer.sync();

  begin("write checkpoint: read back");
  check_hdf5_file(path, plan.owned);
  // The writer refers to the plan: asked before that is moved, in whatever order arguments are
  // evaluated.
  const std::vector<std::uint64_t> checksums = writer.checksums();
  Manifest part = part_of(std::move(plan), checksums);
  part.files.front() = read_back(options, file, part);
  file.close();
  sync_folder(folder);
  begin("write checkpoint: gather manifest");
  return part;
}

}  // namespace fathom::trainer
