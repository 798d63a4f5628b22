#include "trainer/checkpoint/checkpoint.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "parallel/comm/thread_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/contains.h"
#include "tests/support/run_ranks.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/checkpoint/checkpoint_state.h"

using namespace fathom;
using namespace fathom::test;
using trainer::CheckpointOptions;
using trainer::LoadScope;

namespace {

// Runs body on a world of one and returns the error's message.
std::string alone(const std::function<void(parallel::Communicator& world, Stream& stream)>& body) {
  return error_of([&] {
    auto world = parallel::make_thread_world(1);
    Stream stream;
    body(*world.front(), stream);
  });
}

}  // namespace

TEST_CASE("a checkpoint loads with the same bits on any number of ranks and any cut") {
  const TemporaryFolder folder;
  const auto specs = all_kinds_of_tensors();
  std::int64_t step = 0;
  for (const int save_ranks : {1, 2, 3, 4}) {
    step += 100;
    REQUIRE(all_empty(save_on_ranks(folder.path(), step, save_ranks, 10 + save_ranks, specs)));
    trainer::verify_checkpoint({.root = folder.path()}, step);
    for (const int load_ranks : {1, 2, 4, 5}) {
      for (const std::uint64_t layout_seed : {20, 21, 22}) {
        const auto messages = load_on_ranks(folder.path(), step, load_ranks, layout_seed, specs);
        CHECK(messages == std::vector<std::string>(static_cast<std::size_t>(load_ranks)));
      }
    }
  }
  CHECK(trainer::list_checkpoints(folder.path()) == std::vector<std::int64_t>{100, 200, 300, 400});
  CHECK(trainer::latest_checkpoint(folder.path()) == 400);
  CHECK(names_in(folder.path() / "step-00000200") ==
        std::vector<std::string>{"manifest.pb", "rank-00000.h5", "rank-00001.h5"});
}

TEST_CASE("the same state gives the same bytes in the files") {
  const TemporaryFolder folder;
  for (const char* run : {"a", "b"}) {
    if (run[0] == 'b') {  // HDF5 keeps times in seconds where it is not told otherwise
      std::this_thread::sleep_for(std::chrono::milliseconds(1001));
    }
    REQUIRE(all_empty(save_on_ranks(folder.path() / run, 7, 2, 1, all_kinds_of_tensors())));
  }
  for (const char* name : {"rank-00000.h5", "rank-00001.h5", "manifest.pb"}) {
    CHECK(read_file(folder.path() / "a/step-00000007" / name) ==
          read_file(folder.path() / "b/step-00000007" / name));
  }
}

TEST_CASE("only folders with a published name are listed") {
  const TemporaryFolder folder;
  CHECK(trainer::list_checkpoints(folder.path() / "absent").empty());
  CHECK(!trainer::latest_checkpoint(folder.path()).has_value());
  for (const char* name :
       {"step-00000100.tmp-0123456789abcdef", "step-100", "step-000000100", "step-0000010a",
        "step-", "step--0000001", "old", "step-00000200", "step-123456789"}) {
    std::filesystem::create_directory(folder.path() / name);
  }
  std::ofstream(folder.path() / "step-00000300") << "a file";
  CHECK(trainer::list_checkpoints(folder.path()) == std::vector<std::int64_t>{200, 123456789});
}

TEST_CASE("a save of the same step replaces the one that was there") {
  const TemporaryFolder folder;
  const auto specs = few_small_tensors();
  REQUIRE(all_empty(save_on_ranks(folder.path(), 50, 3, 1, specs)));
  REQUIRE(all_empty(save_on_ranks(folder.path(), 50, 2, 2, specs)));
  CHECK(names_in(folder.path()) == std::vector<std::string>{"step-00000050"});
  CHECK(names_in(folder.path() / "step-00000050").size() == 3);
  CHECK(all_empty(load_on_ranks(folder.path(), 50, 1, 3, specs)));
}

TEST_CASE("a checkpoint of another model is refused and the fields are shown") {
  const TemporaryFolder folder;
  const auto specs = few_small_tensors();
  REQUIRE(all_empty(save_on_ranks(folder.path(), 100, 2, 1, specs)));
  const auto load = [&](const std::vector<TensorSpec>& wanted,
                        const trainer::CheckpointIdentity& identity,
                        LoadScope scope = LoadScope::kEverything) {
    return alone([&](parallel::Communicator& world, Stream& stream) {
      FakeState state(wanted, 1, 0, 5, stream);
      trainer::load_checkpoint({.root = folder.path()}, 100, state.visitor(), identity, world,
                               scope);
    });
  };
  CHECK(load(specs, test_identity()).empty());

  SECTION("config") {
    auto identity = test_identity();
    identity.model = {{"hidden_size", "512"}, {"num_heads", "8"}};
    const std::string message = load(specs, identity);
    CHECK(contains(message, "config: checkpoint step-00000100 in "));
    CHECK(contains(message,
                   "is of another model:\n"
                   "  hidden_size: 256 in the checkpoint, 512 here\n"
                   "  num_heads: absent in the checkpoint, 8 here\n"
                   "  num_layers: 4 in the checkpoint, absent here"));
  }
  SECTION("tokenizer") {
    auto identity = test_identity();
    identity.tokenizer_hash = "ffff";
    const std::string message = load(specs, identity);
    CHECK(contains(message, "tokenizer: 4b1d in the checkpoint, ffff here"));
    identity = test_identity();
    identity.tokenizer_hash = "";  // the caller does not care
    CHECK(load(specs, identity).empty());
  }
  SECTION("shape and type") {
    auto other = specs;
    other[0].shape = {7, 6};
    other[1].dtype = DType::kInt32;
    const std::string message = load(other, test_identity());
    CHECK(contains(message,
                   "model.embed_tokens.weight: float32 [7, 5] in the checkpoint, float32 [7, 6] "
                   "here"));
    CHECK(contains(message, "model.norm.weight: float32 [9] in the checkpoint, int32 [9] here"));
  }
  SECTION("a tensor more") {
    auto other = specs;
    other.push_back({"model.extra", {3}});
    CHECK(contains(load(other, test_identity()), "model.extra: not in the checkpoint"));
  }
  SECTION("a tensor less is refused, unless a part is asked for") {
    auto other = specs;
    other.pop_back();
    CHECK(contains(load(other, test_identity()),
                   "model.norm.weight.exp_avg: in the checkpoint only"));
    CHECK(load(other, test_identity(), LoadScope::kPart).empty());
  }
  SECTION("a step that is not there") {
    CHECK(contains(
        load_on_ranks(folder.path(), 300, 1, 1, specs).front(),
        "config: no checkpoint of step 300 in " + folder.path().string() + "; there are 100"));
  }
}

TEST_CASE("states of ranks that do not make a whole are refused on all ranks") {
  const TemporaryFolder folder;
  const auto save = [&](const std::function<void(int, parallel::StateVisitor&, Stream&)>& visit) {
    std::vector<std::string> messages(2);
    run_ranks(2, [&](parallel::Communicator& world, Stream& stream) {
      messages[static_cast<std::size_t>(world.rank())] = error_of([&] {
        trainer::save_checkpoint(
            {.root = folder.path()}, 1,
            [&](parallel::StateVisitor& visitor) { visit(world.rank(), visitor, stream); },
            test_identity(), world);
      });
    });
    CHECK(messages[0] == messages[1]);
    CHECK(names_in(folder.path()).empty());
    return messages[0];
  };
  const auto show = [](parallel::StateVisitor& visitor, Stream& stream, std::int64_t begin,
                       std::int64_t count, bool is_owner, Shape shape = {8}) {
    Tensor local = Tensor::zeros({count}, DType::kFloat32, stream);
    visitor.tensor({.key = "w",
                    .global_shape = shape,
                    .row_begin = 0,
                    .num_rows = 1,
                    .column_begin = begin,
                    .num_columns = count,
                    .is_owner = is_owner},
                   local);
  };
  CHECK(contains(save([&](int rank, parallel::StateVisitor& visitor, Stream& stream) {
                   show(visitor, stream, rank == 0 ? 0 : 5, rank == 0 ? 4 : 3, true);
                 }),
                 "tensor w [8]: its 2 slices hold 7 of 8 elements"));
  CHECK(contains(save([&](int rank, parallel::StateVisitor& visitor, Stream& stream) {
                   show(visitor, stream, rank == 0 ? 0 : 3, rank == 0 ? 4 : 5, true);
                 }),
                 "overlap"));
  CHECK(contains(save([&](int, parallel::StateVisitor& visitor, Stream& stream) {
                   show(visitor, stream, 0, 8, false);
                 }),
                 "tensor w [8]: its 0 slices hold 0 of 8 elements"));
  CHECK(contains(save([&](int rank, parallel::StateVisitor& visitor, Stream& stream) {
                   show(visitor, stream, 0, 8, rank == 0, rank == 0 ? Shape{8} : Shape{9});
                 }),
                 "w is float32 [9] on rank 1, float32 [8] on another"));
  CHECK(
      contains(save([&](int rank, parallel::StateVisitor& visitor, Stream& stream) {
                 show(visitor, stream, 0, 8, rank == 0);
                 std::int64_t step = 10 + rank;
                 visitor.integer("step", step);
               }),
               "rank 1 has other integers in its state than rank 0: step = 11 and not step = 10"));
  CHECK(contains(save([&](int rank, parallel::StateVisitor& visitor, Stream& stream) {
                   show(visitor, stream, 4, rank == 0 ? 8 : 4, false);
                 }),
                 "rank 0: internal: check failed"));
}

TEST_CASE("saving and loading tell how far they are") {
  const TemporaryFolder folder;
  std::vector<std::pair<std::int64_t, std::int64_t>> seen;
  const auto record = [&](std::int64_t done, std::int64_t total) {
    seen.emplace_back(done, total);
  };
  CHECK(all_empty(
      save_on_ranks(folder.path(), 1, 1, 1, few_small_tensors(),
                    [&](int, CheckpointOptions& options) { options.progress = record; })));
  const std::int64_t bytes = 7 * 5 * 4 + 9 * 4 + 9 * 2;
  REQUIRE(!seen.empty());
  CHECK(seen.back() == std::pair(2 * bytes, 2 * bytes));
  seen.clear();
  CHECK(alone([&](parallel::Communicator& world, Stream& stream) {
          FakeState state(few_small_tensors(), 1, 0, 2, stream);
          trainer::load_checkpoint({.root = folder.path(), .progress = record}, 1, state.visitor(),
                                   test_identity(), world);
        }).empty());
  REQUIRE(!seen.empty());
  CHECK(seen.back() == std::pair(bytes, bytes));
}
