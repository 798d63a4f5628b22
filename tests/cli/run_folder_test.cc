#include "cli/run_folder.h"

#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>

#include "configs/load.h"
#include "core/error.h"
#include "core/file.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::cli {
namespace {

std::string refusal(const std::filesystem::path& path) {
  try {
    const RunFolder folder(path, path / "checkpoints");
  } catch (const ConfigError& error) {
    return error.message();
  }
  return "none";
}

}  // namespace

TEST_CASE("a run folder is made with its parents and holds the resolved config") {
  const test::TemporaryFolder base;
  const std::filesystem::path path = base.path() / "a" / "b";
  const RunFolder folder(path, path / "checkpoints");
  CHECK(std::filesystem::is_directory(folder.log()));
  config::RunConfig config;
  config.mutable_train()->set_steps(7);
  folder.write_config(config);
  config.mutable_train()->set_steps(8);
  folder.write_config(config);
  CHECK(config::load(path / "config.textproto").train().steps() == 8);
}

TEST_CASE("a run folder in use is refused by name of the process that has it") {
  const test::TemporaryFolder base;
  {
    const RunFolder folder(base.path(), base.path() / "checkpoints");
    const std::string message = refusal(base.path());
    CHECK(message.find(base.path().string() + " is in use by process " + std::to_string(getpid()) +
                       " on ") != std::string::npos);
    CHECK(message.find("run.directory") != std::string::npos);
  }
  CHECK(refusal(base.path()) == "none");  // free again
}

TEST_CASE("a run folder that cannot be made is an error of the file system") {
  const test::TemporaryFolder base;
  std::ofstream(base.path() / "file") << "x";
  CHECK_THROWS_AS(RunFolder(base.path() / "file" / "run", base.path() / "checkpoints"), IoError);
}

TEST_CASE("two runs do not write into the same folder of checkpoints") {
  const test::TemporaryFolder base;
  const std::filesystem::path first = base.path() / "first";
  const std::filesystem::path second = base.path() / "second";
  const RunFolder folder(first, first / "checkpoints");
  CHECK_THROWS_WITH(RunFolder(second, first / "checkpoints"),
                    Catch::Contains("folder of checkpoints " + (first / "checkpoints").string() +
                                    " is in use by process ") &&
                        Catch::Contains("another checkpoint.directory"));
  std::filesystem::create_directory_symlink(first / "checkpoints", second / "checkpoints");
  CHECK_THROWS_AS(RunFolder(second, second / "checkpoints"), ConfigError);
  const RunFolder apart(second, base.path() / "elsewhere" / "checkpoints");
}

TEST_CASE("checkpoints may lie in the run folder itself") {
  const test::TemporaryFolder base;
  const RunFolder folder(base.path(), base.path() / ".");
  CHECK(std::filesystem::is_directory(folder.log()));
}

}  // namespace fathom::cli
