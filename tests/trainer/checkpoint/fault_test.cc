#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "parallel/comm/thread_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/contains.h"
#include "tests/support/open_file_limit.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/checkpoint/checkpoint_state.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/shard_file.h"

using namespace fathom;
using namespace fathom::test;
using trainer::CheckpointOptions;
namespace fs = std::filesystem;

namespace {

// Runs body in a child process, which ends as a program does, through its exit handlers. Returns
// the wait status.
int in_child(const std::function<int()>& body) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int code = 99;
    try {
      code = body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    std::exit(code);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  return status;
}

bool exited_with(int status, int code) { return WIFEXITED(status) && WEXITSTATUS(status) == code; }

// A save on a world of one, in this process.
std::string save_alone(const fs::path& root, std::int64_t step,
                       const std::vector<TensorSpec>& specs,
                       const std::function<void(CheckpointOptions&)>& adjust = {}) {
  return error_of([&] {
    auto world = parallel::make_thread_world(1);
    Stream stream;
    FakeState state(specs, 1, 0, 3, stream);
    state.fill(static_cast<std::uint64_t>(step));
    CheckpointOptions options{.root = root};
    if (adjust) {
      adjust(options);
    }
    trainer::save_checkpoint(options, step, state.visitor(), test_identity(), *world.front());
  });
}

bool latest_is_good(const fs::path& root, const std::vector<TensorSpec>& specs) {
  const auto step = trainer::latest_checkpoint(root);
  return step && error_of([&] { trainer::verify_checkpoint({.root = root}, *step); }).empty() &&
         all_empty(load_on_ranks(root, *step, 2, 8, specs));
}

}  // namespace

TEST_CASE("a rank that fails fails the save on all ranks and leaves the checkpoint before") {
  const TemporaryFolder folder;
  const auto specs = few_small_tensors();
  REQUIRE(all_empty(save_on_ranks(folder.path(), 100, 3, 1, specs)));
  for (const int bad_rank : {0, 1, 2}) {
    for (const std::string point :
         {"create folder", "reserve space", "create file", "write slice", "sync file", "read back",
          "gather manifest", "write manifest", "publish"}) {
      const auto messages =
          save_on_ranks(folder.path(), 200, 3, 1, specs, [&](int rank, CheckpointOptions& options) {
            if (rank == bad_rank) {
              options.begin_phase = [&point](std::string_view here) {
                if (here == "write checkpoint: " + point) {
                  throw IoError("disk on fire");
                }
              };
            }
          });
      if (bad_rank != 0 &&
          (point == "create folder" || point == "write manifest" || point == "publish")) {
        CHECK(all_empty(messages));  // rank 0's work alone
        fs::remove_all(folder.path() / "step-00000200");
        continue;
      }
      for (const std::string& message : messages) {
        CHECK(message == concat("io: rank ", bad_rank, ": disk on fire"));
      }
      CHECK(names_in(folder.path()) == std::vector<std::string>{"step-00000100"});
    }
  }
  CHECK(latest_is_good(folder.path(), specs));
}

TEST_CASE(
    "killed at any point, a save leaves a newest checkpoint that loads, and the next save works") {
  const TemporaryFolder folder;
  const auto specs = few_small_tensors();
  bool was_killed = true;
  int num_points = 0;
  for (int kill_at = 1; was_killed; ++kill_at) {
    const fs::path root = folder.path() / std::to_string(kill_at);
    REQUIRE(save_alone(root, 100, specs).empty());
    const int status = in_child([&] {
      int num_passed = 0;
      return save_alone(
                 root, 200, specs,
                 [&](CheckpointOptions& options) {
                   options.keep_last = 1;
                   options.begin_phase = [&](const char*) {
                     if (++num_passed == kill_at) {
                       raise(SIGKILL);
                     }
                   };
                 }).empty()
                 ? 0
                 : 1;
    });
    was_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    CHECK((was_killed || exited_with(status, 0)));
    num_points += was_killed ? 1 : 0;
    CHECK(latest_is_good(root, specs));
    // What was left is removed by the next save.
    CHECK(save_alone(root, 300, specs, [](CheckpointOptions& options) {
            options.keep_last = 1;
          }).empty());
    CHECK(names_in(root) == std::vector<std::string>{"step-00000300"});
    CHECK(latest_is_good(root, specs));
  }
  CHECK(num_points >= 10);
}

TEST_CASE("a file size limit fails the save and not the program") {
  const TemporaryFolder folder;
  const auto specs = all_kinds_of_tensors();
  REQUIRE(save_alone(folder.path(), 100, specs).empty());
  for (const rlim_t limit : {rlim_t{0}, rlim_t{3000}, rlim_t{100000}, rlim_t{1000000}}) {
    const int status = in_child([&] {
      std::signal(SIGXFSZ, SIG_IGN);
      rlimit unlimited{};
      getrlimit(RLIMIT_FSIZE, &unlimited);
      rlimit limited = unlimited;
      limited.rlim_cur = limit;
      setrlimit(RLIMIT_FSIZE, &limited);
      const std::string message = save_alone(folder.path(), 200, specs);
      setrlimit(RLIMIT_FSIZE, &unlimited);
      const bool named = contains(message, "io: ") && contains(message, "File too large");
      const bool clean = names_in(folder.path()) == std::vector<std::string>{"step-00000100"};
      // The library must have come out of it able to go on, and to end.
      const bool goes_on =
          save_alone(folder.path(), 300, specs).empty() && latest_is_good(folder.path(), specs);
      fs::remove_all(folder.path() / "step-00000300");
      return named && clean && goes_on ? 0 : 1;
    });
    INFO("limit " << limit << ", status " << status);
    CHECK(exited_with(status, 0));
  }
}

TEST_CASE("a full disk fails the save, is named, and leaves the checkpoint before") {
  const TemporaryFolder folder;
  const fs::path disk = folder.path() / "disk";
  fs::create_directory(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=4m") != 0) {
    WARN("no right to mount a small file system: not tested");
    return;
  }
  const auto specs = all_kinds_of_tensors();
  const std::string first = save_alone(disk, 100, specs);
  std::string message, after;
  bool clean = false, good = false;
  // From so full that no file can be made to nearly enough room.
  for (const int free_kib : {0, 4, 40, 400, 1200}) {
    std::ofstream filler(disk / "filler", std::ios::binary);
    const auto room = static_cast<std::int64_t>(fs::space(disk).available) - free_kib * 1024;
    filler << std::string(static_cast<std::size_t>(std::max<std::int64_t>(room, 0)), 'x');
    filler.close();
    message = save_alone(disk, 200, specs);
    fs::remove(disk / "filler");
    clean = names_in(disk) == std::vector<std::string>{"step-00000100"};
    good = latest_is_good(disk, specs);
    INFO(free_kib << " KiB: " << message);
    CHECK(contains(message, "io: "));
    CHECK(contains(message, "No space left on device"));
    CHECK(clean);
    CHECK(good);
  }
  after = save_alone(disk, 300, specs);
  umount2(disk.c_str(), MNT_DETACH);
  CHECK(first.empty());
  CHECK(after.empty());
}

TEST_CASE("pruning keeps the last ones and removes only what is provably ours") {
  const TemporaryFolder folder;
  const fs::path& root = folder.path();
  const auto specs = few_small_tensors();
  for (const std::int64_t step : {100, 200, 300, 400, 500}) {
    REQUIRE(save_alone(root, step, specs).empty());
  }
  SECTION("the newest stay") {
    CHECK(trainer::prune_checkpoints(root, 2, 500).empty());
    CHECK(trainer::list_checkpoints(root) == std::vector<std::int64_t>{400, 500});
  }
  SECTION("newer ones than the run is at do not count and are not touched") {
    CHECK(trainer::prune_checkpoints(root, 1, 300).empty());
    CHECK(trainer::list_checkpoints(root) == std::vector<std::int64_t>{300, 400, 500});
  }
  SECTION("at least one stays") {
    CHECK(trainer::prune_checkpoints(root, 0, 500).empty());
    CHECK(trainer::list_checkpoints(root) == std::vector<std::int64_t>{500});
  }
  SECTION("a damaged one does not count, and stays") {
    std::ofstream(root / "step-00000500/manifest.pb") << "x";
    const auto left = trainer::prune_checkpoints(root, 1, 500);
    CHECK(left.size() == 1);
    CHECK(trainer::list_checkpoints(root) == std::vector<std::int64_t>{400, 500});
  }
  SECTION("a folder with anything else in it stays") {
    std::ofstream(root / "step-00000100/NOTES.txt") << "best so far";
    fs::create_directory(root / "step-00000200/rank-00009.h5");
    fs::create_symlink("manifest.pb", root / "step-00000300/rank-00001.h5");
    const auto left = trainer::prune_checkpoints(root, 1, 500);
    CHECK(left.size() == 3);
    CHECK(trainer::list_checkpoints(root) == std::vector<std::int64_t>{100, 200, 300, 500});
    CHECK(contains(left[2], "holds NOTES.txt, which is not of a checkpoint"));
  }
  SECTION("links and strange names stay") {
    fs::rename(root / "step-00000100", root / "moved");
    fs::create_directory_symlink("moved", root / "step-00000100");
    fs::copy(root / "moved", root / "step-00000600.tmp-copy", fs::copy_options::recursive);
    fs::copy(root / "moved", root / "step-00000600.tmp-0123456789ABCDEF",
             fs::copy_options::recursive);
    CHECK(trainer::prune_checkpoints(root, 1, 500).size() == 1);
    CHECK(names_in(root) == std::vector<std::string>{"moved", "step-00000100", "step-00000500",
                                                     "step-00000600.tmp-0123456789ABCDEF",
                                                     "step-00000600.tmp-copy"});
    CHECK(names_in(root / "moved").size() == 2);
  }
  SECTION("leftovers of dead saves go") {
    fs::rename(root / "step-00000200", root / "step-00000200.tmp-0123456789abcdef");
    fs::create_directory(root / "step-00000600.tmp-00000000000000ff");
    CHECK(trainer::prune_checkpoints(root, 9, 500).empty());
    CHECK(trainer::list_checkpoints(root) == std::vector<std::int64_t>{100, 300, 400, 500});
    CHECK(names_in(root).size() == 4);
  }
}

TEST_CASE("a reader never sees a half written or half removed checkpoint") {
  const TemporaryFolder folder;
  const auto specs = few_small_tensors();
  REQUIRE(save_alone(folder.path(), 1, specs).empty());
  std::atomic<bool> done = false;
  std::string save_error;
  std::jthread saver([&] {
    for (std::int64_t step = 2; step <= 25 && save_error.empty(); ++step) {
      save_error =
          save_alone(folder.path(), step, specs, [](CheckpointOptions& o) { o.keep_last = 1; });
    }
    done = true;
  });
  int num_loaded = 0, num_gone = 0;
  std::string unexpected;
  while (!done || num_loaded == 0) {
    const auto step = trainer::latest_checkpoint(folder.path());
    const std::string message =
        step ? load_on_ranks(folder.path(), *step, 1, 4, specs).front() : "nothing there";
    if (message.empty()) {
      ++num_loaded;
    } else if (contains(message, "no checkpoint of step") || contains(message, "was removed")) {
      ++num_gone;
    } else {
      unexpected = message;
    }
  }
  saver.join();
  INFO("unexpected: " << unexpected);
  INFO(num_loaded << " loaded, " << num_gone << " gone before they were opened");
  CHECK(save_error.empty());
  CHECK(unexpected.empty());
}

TEST_CASE("a checkpoint that is being read is pruned later") {
  const TemporaryFolder folder;
  const auto specs = few_small_tensors();
  REQUIRE(save_alone(folder.path(), 100, specs).empty());
  REQUIRE(save_alone(folder.path(), 200, specs).empty());
  std::vector<std::string> left;
  auto world = parallel::make_thread_world(1);
  Stream stream;
  FakeState state(specs, 1, 0, 3, stream);
  trainer::load_checkpoint(
      {.root = folder.path()}, 100,
      [&](parallel::StateVisitor& visitor) {
        left = trainer::prune_checkpoints(folder.path(), 1, 200);
        state.visit(visitor);
      },
      test_identity(), *world.front());
  CHECK(state.difference_from(100).empty());
  REQUIRE(left.size() == 1);
  CHECK(contains(left[0], "step-00000100 is left: it is being read"));
  CHECK(trainer::prune_checkpoints(folder.path(), 1, 200).empty());
  CHECK(trainer::list_checkpoints(folder.path()) == std::vector<std::int64_t>{200});
}

TEST_CASE("a replaced checkpoint that cannot be removed is told, and the save stands") {
  if (kErrorsNeedFiles) {
    return;
  }
  const TemporaryFolder folder;
  const auto specs = few_small_tensors();
  REQUIRE(save_alone(folder.path(), 100, specs).empty());
  std::vector<std::string> told;
  std::optional<OpenFileLimit> limit;
  const std::string message = save_alone(folder.path(), 100, specs, [&](CheckpointOptions& o) {
    o.warn = [&](const std::string& text) { told.push_back(text); };
    o.begin_phase = [&](std::string_view here) {
      if (here == "write checkpoint: publish") {
        const int free = dup(STDERR_FILENO);
        close(free);
        limit.emplace(free + 1);  // one file at a time, and a removal needs two
      }
    };
  });
  limit.reset();
  CHECK(message.empty());
  REQUIRE(told.size() == 1);
  CHECK(contains(told[0], "is left: list "));
  CHECK(latest_is_good(folder.path(), specs));
  CHECK(names_in(folder.path()).size() == 2);
  CHECK(save_alone(folder.path(), 200, specs).empty());  // which removes the rest
  CHECK(names_in(folder.path()) == std::vector<std::string>{"step-00000100", "step-00000200"});
}

TEST_CASE("what NFS keeps of an open file does not make a folder foreign, and is not removed") {
  const TemporaryFolder folder;
  const fs::path leftover = folder.path() / "step-00000200.tmp-0123456789abcdef";
  fs::create_directory(leftover);
  std::ofstream(leftover / "rank-00000.h5") << "x";
  std::ofstream(leftover / ".nfs0000000000000001") << "x";
  const auto left = trainer::remove_leftovers(folder.path());
  REQUIRE(left.size() == 1);
  CHECK(contains(left[0], "is left: remove "));
  CHECK(contains(left[0], "not empty"));
  CHECK(names_in(leftover) == std::vector<std::string>{".nfs0000000000000001"});
  fs::remove(leftover / ".nfs0000000000000001");  // as the client does once it is closed
  CHECK(trainer::remove_leftovers(folder.path()).empty());
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("a lock that the system refuses is an error, not a lock") {
  const TemporaryFolder folder;
  trainer::ShardFile file = trainer::ShardFile::create(folder.path() / "file");
  CHECK(file.try_lock_exclusive());
  CHECK_FALSE(trainer::ShardFile::open_for_reading(file.path()).try_lock_shared());
  file.close();
  CHECK_THROWS_AS(file.try_lock_exclusive(), IoError);  // EBADF, as NFS has it
}

TEST_CASE("a shard is synced piece by piece, so that progress is seen on a slow disk") {
  const TemporaryFolder folder;
  const auto num_syncs = [&](std::int64_t sync_bytes) {
    int count = 0;
    CHECK(save_alone(folder.path(), 100, all_kinds_of_tensors(), [&](CheckpointOptions& o) {
            o.sync_bytes = sync_bytes;
            o.begin_phase = [&](std::string_view here) {
              count += here == "write checkpoint: sync file" ? 1 : 0;
            };
          }).empty());
    return count;
  };
  CHECK(num_syncs(std::int64_t{1} << 30) == 1);
  const int of_each_slice = num_syncs(1);
  const int of_some = num_syncs(100000);
  CHECK(of_some > 1);
  CHECK(of_each_slice > of_some);
}
