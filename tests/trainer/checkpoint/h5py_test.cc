#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/checkpoint/checkpoint_state.h"
#include "trainer/checkpoint/checkpoint.h"

using namespace fathom;
using namespace fathom::test;

TEST_CASE("h5py finds each tensor by its name, with its values") {
  // The system's Python: Debian's h5py belongs to it.
  if (std::system("/usr/bin/python3 -c 'import h5py, numpy' 2>/dev/null") != 0) {
    WARN("/usr/bin/python3 has no h5py (package python3-h5py): not tested");
    return;
  }
  const TemporaryFolder folder;
  REQUIRE(all_empty(save_on_ranks(folder.path(), 100, 3, 1, all_kinds_of_tensors())));
  const std::string command =
      concat("/usr/bin/python3 ", source_path("tests/trainer/checkpoint/h5py_test.py"), " ",
             (folder.path() / "step-00000100").string(), " 2>&1");
  std::FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string output;
  char buffer[4096];
  while (const std::size_t count = std::fread(buffer, 1, sizeof buffer, pipe)) {
    output.append(buffer, count);
  }
  INFO(output);
  CHECK(pclose(pipe) == 0);
  // The same from our own bits, in the order of the names.
  CHECK(output == describe_tensors(all_kinds_of_tensors(), 100));
}
