#include "trainer/reporter.h"

#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "tests/support/catch.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/temporary_folder.h"

namespace fathom::trainer {

TEST_CASE("metrics that cannot be written are told once, and end no run and tear no line") {
  const test::TemporaryFolder folder;
  std::vector<std::string> told;
  Reporter reporter(folder.path(), std::nullopt,
                    [&](const std::string& line) { told.push_back(line); });
  reporter.write({{"step", 1}});
  {
    const test::FileSizeLimit limit(20);
    reporter.write({{"step", 2}});
    reporter.write({{"step", 3}});
  }
  REQUIRE(told.size() == 1);
  CHECK(told[0].find("metrics are not written: write ") == 0);
  CHECK(told[0].find("metrics.jsonl: File too large") != std::string::npos);
  reporter.write({{"step", 4}});
  reporter.write({{"step", 5}});
  CHECK(told.size() == 2);
  CHECK(told.back() == "metrics are written again");
  CHECK(read_file(folder.path() / "metrics.jsonl") ==
        "{\"step\": 1}\n{\"step\": 4}\n{\"step\": 5}\n");
}

TEST_CASE("each kind of file that cannot be written is told by itself") {
  const test::TemporaryFolder folder;
  std::vector<std::string> told;
  Reporter reporter(folder.path(), std::nullopt,
                    [&](const std::string& line) { told.push_back(line); });
  const auto fails = [] { throw IoError("disk on fire"); };
  reporter.try_to_write("samples", fails);
  reporter.try_to_write("names", fails);
  reporter.try_to_write("samples", fails);
  CHECK(told == std::vector<std::string>{"samples are not written: disk on fire",
                                         "names are not written: disk on fire"});
  CHECK_THROWS_AS(reporter.try_to_write("samples", [] { throw InternalError("a bug"); }),
                  InternalError);
}

}  // namespace fathom::trainer
