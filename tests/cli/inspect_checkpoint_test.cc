#include "cli/inspect_checkpoint.h"

#include <fstream>
#include <sstream>

#include "core/error.h"
#include "core/stream.h"
#include "parallel/comm/thread_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/checkpoint/checkpoint.h"

namespace fathom::cli {
namespace {

void save(const std::filesystem::path& root, std::int64_t step) {
  Stream stream;
  Tensor weight = Tensor::empty({2, 3}, DType::kFloat32, stream);
  std::fill_n(weight.mutable_data<float>(), 6, 1.5F);
  const auto world = parallel::make_thread_world(1);
  trainer::CheckpointOptions options;
  options.root = root;
  trainer::save_checkpoint(
      options, step,
      [&](parallel::StateVisitor& visitor) {
        visitor.tensor(
            {.key = "model.norm.weight", .global_shape = {2, 3}, .num_rows = 2, .num_columns = 3},
            weight);
        visitor.integer("progress.step", step);
      },
      {.program_version = "0.1",
       .tokenizer_hash = "abc",
       .config_text = "",
       .model = {{"hidden_size", "3"}}},
      *world.front());
}

std::string shown(const std::filesystem::path& folder, const CheckpointInspection& inspection) {
  std::ostringstream out;
  print_checkpoint(folder, inspection, out);
  return out.str();
}

}  // namespace

TEST_CASE("a checkpoint shows what it is of, and its tensors when asked") {
  const test::TemporaryFolder run;
  const std::filesystem::path root = run.path() / "checkpoints";
  save(root, 200);
  const std::filesystem::path folder = trainer::checkpoint_folder(root, 200);
  REQUIRE(is_checkpoint(folder));
  const std::string text = shown(folder, {.lists_tensors = true, .verifies = true});
  for (const std::string part :
       {"step       200", "written by version 0.1\n", "hidden_size=3", "progress.step=200",
        "tokenizer  abc", "model.norm.weight [2, 3] float32 in 1 slice\n", "verified"}) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
  CHECK(shown(folder / "", {}).find("model.norm.weight") == std::string::npos);
}

TEST_CASE("a run folder and its folder of checkpoints list what is published") {
  const test::TemporaryFolder run;
  const std::filesystem::path root = run.path() / "checkpoints";
  save(root, 5);
  save(root, 10);
  CHECK(trainer::checkpoints_of_run(run.path()) == root);
  CHECK(trainer::checkpoints_of_run(root) == root);
  CHECK_FALSE(trainer::checkpoints_of_run(run.path() / "none").has_value());
  std::ostringstream out;
  print_checkpoint_list(root, out);
  CHECK(out.str() ==
        (root / "step-00000005").string() + "\n" + (root / "step-00000010").string() + "\n");
  for (const std::filesystem::path& path : {run.path(), root, run.path() / ""}) {
    CHECK(trainer::find_checkpoint(path) == root / "step-00000010");
  }
  CHECK(trainer::find_checkpoint(root / "step-00000005" / "") == root / "step-00000005");
  CHECK_FALSE(trainer::find_checkpoint(run.path() / "none").has_value());
}

TEST_CASE("a damaged checkpoint and a folder that is none are refused by name") {
  const test::TemporaryFolder run;
  const std::filesystem::path root = run.path() / "checkpoints";
  save(root, 5);
  const std::filesystem::path folder = trainer::checkpoint_folder(root, 5);
  std::ofstream(folder / "manifest.pb", std::ios::app) << "x";
  try {
    shown(folder, {});
    FAIL("a damaged manifest was accepted");
  } catch (const ConfigError& error) {
    CHECK(error.message().find(folder.string()) != std::string::npos);
  }
  CHECK_THROWS_AS(shown(run.path(), {}), ConfigError);
}

}  // namespace fathom::cli
