#include "cli/job_lock.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <string>

#include "core/error.h"
#include "core/file.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::cli {
namespace {

std::string refusal(const std::filesystem::path& path) {
  try {
    const JobLock lock(path, "run folder", "run.directory");
  } catch (const ConfigError& error) {
    return error.message();
  }
  return "none";
}

}  // namespace

TEST_CASE("the lock of a process that was killed is taken over") {
  const test::TemporaryFolder base;
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  const pid_t child = fork();
  if (child == 0) {
    const JobLock lock(base.path(), "run folder", "run.directory");
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

TEST_CASE("a refusal names the file to remove when the job is dead") {
  const test::TemporaryFolder base;
  const JobLock lock(base.path(), "run folder", "run.directory");
  CHECK(
      refusal(base.path()).find("if that job is dead, remove " + (base.path() / "lock").string()) !=
      std::string::npos);
}

TEST_CASE("without the kernel's locks a holder is dead where that can be seen") {
  LockHolder here = this_process();
  CHECK(may_be_alive(here, here));
  CHECK_FALSE(may_be_alive({.host = here.host, .process = 0, .job = {}}, here));
  const pid_t child = fork();
  if (child == 0) {
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  CHECK_FALSE(may_be_alive({.host = here.host, .process = child, .job = {}}, here));
  CHECK(may_be_alive({.host = "elsewhere", .process = 7, .job = {}}, here));
  here.job = "12";
  here.life = 1;
  CHECK_FALSE(may_be_alive({.host = "elsewhere", .process = 7, .job = "12", .life = 0}, here));
  CHECK(may_be_alive({.host = "elsewhere", .process = 7, .job = "12", .life = 1}, here));
  CHECK(may_be_alive({.host = "elsewhere", .process = 7, .job = "13", .life = 0}, here));
  CHECK(may_be_alive({.host = "elsewhere", .process = 7, .job = {}}, here));
}

TEST_CASE("a lock file says job and life where Slurm runs it") {
  const test::TemporaryFolder base;
  setenv("SLURM_JOB_ID", "12", 1);
  setenv("SLURM_RESTART_COUNT", "3", 1);
  {
    const JobLock lock(base.path(), "run folder", "run.directory");
    const LockHolder here = this_process();
    CHECK(read_file(base.path() / "lock") == concat(here.host, ' ', getpid(), " 12 3\n"));
  }
  unsetenv("SLURM_JOB_ID");
  unsetenv("SLURM_RESTART_COUNT");
  CHECK(read_file(base.path() / "lock").empty());
}

}  // namespace fathom::cli
