#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "configs/schema/checkpoint_manifest.pb.h"
#include "core/error.h"
#include "core/file.h"
#include "core/rng.h"
#include "tests/support/catch.h"
#include "tests/support/contains.h"
#include "tests/support/open_file_limit.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/checkpoint/checkpoint_state.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/manifest.h"

using namespace fathom;
using namespace fathom::test;
namespace fs = std::filesystem;

namespace {

// Steps 100 and 200, each of two ranks; the tests damage 200.
class TwoCheckpoints {
 public:
  TwoCheckpoints() {
    REQUIRE(all_empty(save_on_ranks(root(), 100, 2, 1, specs)));
    REQUIRE(all_empty(save_on_ranks(root(), 200, 2, 1, specs)));
  }

  const fs::path& root() const { return folder_.path(); }
  fs::path file(const std::string& name) const { return root() / "step-00000200" / name; }

  std::string verify(std::int64_t step = 200) const {
    return error_of([&] { trainer::verify_checkpoint({.root = root()}, step); });
  }
  std::string load(std::int64_t step = 200) const {
    return load_on_ranks(root(), step, 1, 9, specs).front();
  }
  // Refused by name by both, and the one before is offered.
  void check_refused(const std::string& what) const {
    for (const std::string& message : {load(), verify()}) {
      INFO(message);
      CHECK(contains(message, "config: checkpoint step-00000200 is damaged: "));
      CHECK(contains(message, what));
      CHECK(contains(message, "; resume from the one before with --resume 100"));
    }
    CHECK(load(100).empty());
  }

  const std::vector<TensorSpec> specs = few_small_tensors();

 private:
  TemporaryFolder folder_;
};

void write(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// Seals a manifest as a program would that wrote nonsense.
void write_sealed(const fs::path& path, const trainer::Manifest& manifest) {
  write(path, trainer::serialize_manifest(manifest));
}

}  // namespace

TEST_CASE("a flipped bit anywhere in a checkpoint is refused") {
  const TwoCheckpoints checkpoints;
  const RandomSource random(7, "flips");
  std::uint64_t draw = 0;
  for (const std::string name : {"rank-00000.h5", "rank-00001.h5", "manifest.pb"}) {
    const std::string good = read_file(checkpoints.file(name));
    for (int i = 0; i < 64; ++i) {
      std::string bad = good;
      const std::uint64_t bit = random.below(draw++, 8 * good.size());
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
      write(checkpoints.file(name), bad);
      INFO(name << " bit " << bit);
      checkpoints.check_refused(name == "manifest.pb" ? "" : "file " + name);
    }
    write(checkpoints.file(name), good);
  }
  CHECK(checkpoints.load().empty());
}

TEST_CASE("a checkpoint that cannot be read for want of open files says so") {
  if (kErrorsNeedFiles) {
    return;
  }
  const TwoCheckpoints checkpoints;
  const int free = dup(STDERR_FILENO);
  close(free);
  std::string message;
  {
    const OpenFileLimit limit(free + 1);  // the manifest alone
    message = checkpoints.load();
  }
  INFO(message);
  CHECK(contains(message, "io: checkpoint step-00000200 cannot be read: "));
  CHECK(contains(message, "Too many open files"));
  CHECK(contains(message, "; if that stays so, resume from one before with --resume STEP"));
}

TEST_CASE("every byte of a file counts, also those between the tensors") {
  const TwoCheckpoints checkpoints;
  const std::string name = "rank-00001.h5";
  const std::string good = read_file(checkpoints.file(name));
  std::size_t num_accepted = 0;
  for (std::size_t i = 0; i < good.size(); i += 29) {
    std::string bad = good;
    bad[i] = static_cast<char>(~bad[i]);
    write(checkpoints.file(name), bad);
    num_accepted += checkpoints.load().empty() ? 1 : 0;
  }
  CHECK(num_accepted == 0);
}

TEST_CASE("a flipped bit in a tensor names file and tensor") {
  const TwoCheckpoints checkpoints;
  const trainer::Manifest manifest =
      trainer::parse_manifest(read_file(checkpoints.file("manifest.pb")));
  const trainer::StoredTensor& tensor = *manifest.find("model.norm.weight");
  const trainer::StoredSlice& slice = tensor.slices.front();
  const std::string name = manifest.files[static_cast<std::size_t>(slice.file)].name;
  std::string bytes = read_file(checkpoints.file(name));
  bytes[static_cast<std::size_t>(slice.file_offset)] ^= 1;
  write(checkpoints.file(name), bytes);
  checkpoints.check_refused("file " + name + ": tensor model.norm.weight " +
                            to_string(slice.where) + " does not match its checksum");
}

TEST_CASE("all ranks report what one of them found damaged") {
  const TwoCheckpoints checkpoints;
  const trainer::Manifest manifest =
      trainer::parse_manifest(read_file(checkpoints.file("manifest.pb")));
  const trainer::StoredSlice& slice = manifest.find("model.norm.weight")->slices.front();
  const fs::path path = checkpoints.file(manifest.files[static_cast<std::size_t>(slice.file)].name);
  std::string bytes = read_file(path);
  bytes[static_cast<std::size_t>(slice.file_offset)] ^= 1;
  write(path, bytes);
  const auto messages = load_on_ranks(checkpoints.root(), 200, 4, 12, checkpoints.specs);
  for (const std::string& message : messages) {
    CHECK(message == messages.front());
    CHECK(contains(message, "tensor model.norm.weight"));
    CHECK(contains(message, "config: rank "));
  }
}

TEST_CASE("truncated, missing, added and exchanged files are refused by name") {
  const TwoCheckpoints checkpoints;
  const std::string name = "rank-00001.h5";
  const std::string good = read_file(checkpoints.file(name));
  SECTION("truncated") {
    for (const std::size_t size : {good.size() - 1, good.size() / 2, std::size_t{0}}) {
      write(checkpoints.file(name), good.substr(0, size));
      checkpoints.check_refused(
          concat("file rank-00001.h5 has ", size, " bytes instead of ", good.size(), " bytes"));
    }
  }
  SECTION("longer") {
    write(checkpoints.file(name), good + "x");
    checkpoints.check_refused("file rank-00001.h5 has ");
  }
  SECTION("missing") {
    fs::remove(checkpoints.file(name));
    checkpoints.check_refused("file rank-00001.h5 is missing");
  }
  SECTION("a file of a rank too many") {
    write(checkpoints.file("rank-00002.h5"), good);
    checkpoints.check_refused("file rank-00002.h5 is not part of it");
  }
  SECTION("a note of the user's does not disturb") {
    write(checkpoints.file("NOTES.txt"), "good one");
    CHECK(checkpoints.load().empty());
    CHECK(checkpoints.verify().empty());
  }
  SECTION("shards exchanged") {
    write(checkpoints.file(name), read_file(checkpoints.file("rank-00000.h5")));
    checkpoints.check_refused("file rank-00001.h5");
  }
  SECTION("shard of another step") {
    write(checkpoints.file(name), read_file(checkpoints.root() / "step-00000100" / name));
    checkpoints.check_refused("file rank-00001.h5");
  }
  SECTION("a symbolic link to a good file") {
    fs::rename(checkpoints.file(name), checkpoints.root() / "elsewhere.h5");
    fs::create_symlink(checkpoints.root() / "elsewhere.h5", checkpoints.file(name));
    const std::string message = checkpoints.load();
    CHECK(contains(message, "io: checkpoint step-00000200 cannot be read: open " +
                                checkpoints.file(name).string()));
    CHECK(contains(message, "; if that stays so, resume from the one before with --resume 100"));
    CHECK(!checkpoints.verify().empty());
  }
  SECTION("no manifest") {
    fs::remove(checkpoints.file("manifest.pb"));
    checkpoints.check_refused("manifest.pb is missing");
  }
  SECTION("empty and cut manifests") {
    const std::string manifest = read_file(checkpoints.file("manifest.pb"));
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{1}, manifest.size() / 2, manifest.size() - 1}) {
      write(checkpoints.file("manifest.pb"), manifest.substr(0, size));
      checkpoints.check_refused("manifest.pb");
    }
  }
  SECTION("the manifest of another step") {
    write(checkpoints.file("manifest.pb"),
          read_file(checkpoints.root() / "step-00000100/manifest.pb"));
    checkpoints.check_refused("manifest.pb is of step 100");
  }
}

TEST_CASE("there is nothing to offer before the first checkpoint") {
  const TwoCheckpoints checkpoints;
  fs::remove(checkpoints.root() / "step-00000100/rank-00000.h5");
  CHECK(contains(checkpoints.load(100),
                 "is damaged: file rank-00000.h5 is missing; there is no checkpoint before it"));
}

TEST_CASE("a newer format is refused by its version") {
  const TwoCheckpoints checkpoints;
  checkpoint::SealedManifest sealed;
  sealed.set_format_version(2);
  sealed.set_manifest("anything");
  SECTION("whole") {
    // XXH3-64 of "anything" with seed 2.
    data::Checksum64 checksum(2);
    checksum.add(std::as_bytes(std::span(sealed.manifest())));
    sealed.set_xxh3_64(checksum.value());
    write(checkpoints.file("manifest.pb"), sealed.SerializeAsString());
    for (const std::string& message : {checkpoints.load(), checkpoints.verify()}) {
      CHECK(message ==
            "config: manifest.pb is written in format 2; this program reads up to format 1: use a "
            "newer one");
    }
  }
  SECTION("a version whose seal does not fit is damage") {
    sealed.set_xxh3_64(5);
    write(checkpoints.file("manifest.pb"), sealed.SerializeAsString());
    checkpoints.check_refused("the checksum of manifest.pb does not match its content");
  }
}

TEST_CASE("a manifest that says what cannot be is refused before anything is allocated") {
  const TwoCheckpoints checkpoints;
  trainer::Manifest manifest = trainer::parse_manifest(read_file(checkpoints.file("manifest.pb")));
  trainer::StoredTensor& tensor = manifest.tensors[1];
  trainer::StoredSlice& slice = tensor.slices.front();
  const auto refuse = [&](const std::string& what) {
    write_sealed(checkpoints.file("manifest.pb"), manifest);
    checkpoints.check_refused(what);
  };
  SECTION("a hole") {
    tensor.slices.pop_back();
    refuse("elements");
  }
  SECTION("an overlap") {
    tensor.slices.push_back(slice);
    refuse("overlap");
  }
  SECTION("a slice outside of its tensor") {
    slice.where.column_begin = 1000;
    refuse("outside of it");
  }
  SECTION("sizes that overflow") {
    slice.where.num_columns = std::int64_t{1} << 62;
    refuse("outside of it");
    slice.where.column_begin = INT64_MAX;
    refuse("column 9223372036854775807, outside of it");
    tensor.global_shape = {std::int64_t{1} << 39, std::int64_t{1} << 39};
    refuse("impossible shape");
  }
  SECTION("bytes outside of the file") {
    slice.file_offset = std::int64_t{1} << 60;
    refuse("of rank-0000");
    slice.file_offset = -1;
    refuse("of rank-0000");
  }
  SECTION("bytes of another slice") {
    slice.file_offset = manifest.tensors[0].slices.front().file_offset;
    slice.file = manifest.tensors[0].slices.front().file;
    refuse("share bytes");
  }
  SECTION("a file that is not there") {
    slice.file = 17;
    refuse("in file number 17 of 2");
  }
  SECTION("a path for a name") {
    manifest.files[0].name = "../../etc/passwd";
    refuse("no name of ours");
    manifest.files[0].name = manifest.files[1].name;
    refuse("is doubled");
  }
  SECTION("keys that are no keys") {
    for (const char* key : {"", "/", "a//b", "../a", "a/..", "a b", "a\n", "\xff"}) {
      CHECK(!trainer::is_key(key));
    }
    for (const char* key : {"a", "model.layers.3.q.weight", "optimizer/a:b+c-d_e"}) {
      CHECK(trainer::is_key(key));
    }
    tensor.key = "model.layers.0/../../x";
    refuse("no valid key");
  }
  SECTION("tensors out of order") {
    std::swap(manifest.tensors[0], manifest.tensors[1]);
    refuse("out of order");
  }
}

TEST_CASE("any cut of a tensor is checked in a time that grows with its slices, not their pairs") {
  constexpr std::int64_t kNumSlices = 300'000;
  trainer::Manifest manifest;
  manifest.files.push_back({.name = "rank-00000.h5", .size_bytes = 4 * kNumSlices, .checksum = {}});
  manifest.tensors.push_back({.key = "weight", .global_shape = Shape{kNumSlices}, .slices = {}});
  auto& slices = manifest.tensors.front().slices;
  for (std::int64_t i = 0; i < kNumSlices; ++i) {
    slices.push_back({.where = {.row_begin = 0, .num_rows = 1, .column_begin = i, .num_columns = 1},
                      .file_offset = 4 * i});
  }
  CHECK_NOTHROW(trainer::validate(manifest));
  slices.front().where = slices.back().where;
  CHECK_THROWS_WITH(
      trainer::validate(manifest),
      Catch::Contains("slices [0:1, 299999:300000] and [0:1, 299999:300000] overlap"));
}

TEST_CASE("slices overlap where they share an element, and only there") {
  trainer::Manifest manifest;
  manifest.files.push_back({.name = "rank-00000.h5", .size_bytes = 64, .checksum = {}});
  manifest.tensors.push_back({.key = "weight", .global_shape = Shape{4, 4}, .slices = {}});
  std::int64_t offset = 0;
  const auto add = [&](const trainer::Rectangle& where) {
    manifest.tensors.front().slices.push_back({.where = where, .file_offset = offset});
    offset += 4 * where.numel();
  };
  // A pinwheel around two elements, in no order.
  add({.row_begin = 3, .num_rows = 1, .column_begin = 0, .num_columns = 3});
  add({.row_begin = 0, .num_rows = 1, .column_begin = 1, .num_columns = 3});
  add({.row_begin = 1, .num_rows = 3, .column_begin = 3, .num_columns = 1});
  add({.row_begin = 0, .num_rows = 3, .column_begin = 0, .num_columns = 1});
  add({.row_begin = 1, .num_rows = 2, .column_begin = 2, .num_columns = 1});
  add({.row_begin = 1, .num_rows = 2, .column_begin = 1, .num_columns = 1});
  CHECK_NOTHROW(trainer::validate(manifest));
  // As many elements in all, but one of the inner ones lies over the first column.
  manifest.tensors.front().slices.back().where = {
      .row_begin = 2, .num_rows = 1, .column_begin = 0, .num_columns = 2};
  CHECK_THROWS_WITH(trainer::validate(manifest),
                    Catch::Contains("slices [0:3, 0:1] and [2:3, 0:2] overlap"));
}
