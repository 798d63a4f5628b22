#include "cli/exit_code.h"

#include <cerrno>

#include "core/error.h"
#include "tests/support/catch.h"

namespace fathom::cli {

TEST_CASE("the exit code says who has to act") {
  CHECK(ending_of(ConfigError("c"), Phase::kPreparing).exit_code == 93);
  CHECK(ending_of(ConfigError("c"), Phase::kRunning).exit_code == 93);
  CHECK(ending_of(IoError("i"), Phase::kPreparing).exit_code == 93);
  CHECK(ending_of(IoError("i"), Phase::kRunning).exit_code == 1);
  CHECK(ending_of(IoError("i", ENOENT), Phase::kPreparing).exit_code == 93);
  CHECK(ending_of(IoError("i", EACCES), Phase::kPreparing).exit_code == 93);
  for (const int passing : {EIO, ESTALE, ENOSPC, EDQUOT, EMFILE, ENFILE, ENOMEM}) {
    CHECK(ending_of(IoError("i", passing), Phase::kPreparing).exit_code == 1);
  }
  CHECK(ending_of(CommError("p"), Phase::kPreparing).exit_code == 1);
  CHECK(ending_of(InternalError("b"), Phase::kPreparing).exit_code == 1);
  CHECK(ending_of(std::bad_alloc(), Phase::kRunning).exit_code == 1);
}

TEST_CASE("a user reads the message alone, a bug comes with its place in the source") {
  CHECK(ending_of(ConfigError("the config"), Phase::kRunning).message == "the config");
  CHECK(ending_of(InternalError("the bug"), Phase::kRunning).message.find("exit_code_test.cc") !=
        std::string::npos);
}

}  // namespace fathom::cli
