#include "cli/run_folder.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
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
    const RunFolder folder(path);
  } catch (const ConfigError& error) {
    return error.message();
  }
  return "none";
}

}  // namespace

TEST_CASE("a run folder is made with its parents and holds the resolved config") {
  const test::TemporaryFolder base;
  const std::filesystem::path path = base.path() / "a" / "b";
  const RunFolder folder(path);
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
    const RunFolder folder(base.path());
    const std::string message = refusal(base.path());
    CHECK(message.find(base.path().string() + " is in use by process " + std::to_string(getpid()) +
                       " on ") != std::string::npos);
    CHECK(message.find("run.directory") != std::string::npos);
  }
  CHECK(refusal(base.path()) == "none");  // free again
}

TEST_CASE("the lock of a process that was killed is taken over") {
  const test::TemporaryFolder base;
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  const pid_t child = fork();
  if (child == 0) {
    const RunFolder folder(base.path());
    [[maybe_unused]] const auto written = write(ready[1], "x", 1);
    pause();
    _exit(0);
  }
  char byte = 0;
  REQUIRE(read(ready[0], &byte, 1) == 1);
  CHECK(refusal(base.path()).find(std::to_string(child)) != std::string::npos);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  CHECK(read_file(base.path() / "lock").find(std::to_string(child)) != std::string::npos);
  CHECK(refusal(base.path()) == "none");
  close(ready[0]);
  close(ready[1]);
}

TEST_CASE("a lock file with any content and no holder is taken over") {
  const test::TemporaryFolder base;
  std::ofstream(base.path() / "lock") << "garbage " << std::string(5000, 'x');
  CHECK(refusal(base.path()) == "none");
}

TEST_CASE("a run folder that cannot be made is an error of the file system") {
  const test::TemporaryFolder base;
  std::ofstream(base.path() / "file") << "x";
  CHECK_THROWS_AS(RunFolder(base.path() / "file" / "run"), IoError);
}

}  // namespace fathom::cli
