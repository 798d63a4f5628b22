#include "core/append_file.h"

#include "core/error.h"
#include "core/file.h"
#include "tests/support/catch.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/temporary_folder.h"

namespace fathom {

TEST_CASE("pieces are appended to an empty file or to what is there") {
  const test::TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "file";
  AppendFile(path, AppendFile::Start::kAtEnd).append("one\n");
  AppendFile(path, AppendFile::Start::kAtEnd).append("two\n");
  CHECK(read_file(path) == "one\ntwo\n");
  AppendFile file(path, AppendFile::Start::kEmpty);
  file.append("");
  file.append("three\n");
  CHECK(read_file(path) == "three\n");
  CHECK_THROWS_AS(AppendFile(path / "below", AppendFile::Start::kAtEnd), IoError);
}

TEST_CASE(
    "a piece that cannot be written leaves nothing, and the next one follows the last whole") {
  const test::TemporaryFolder folder;
  AppendFile file(folder.path() / "file", AppendFile::Start::kEmpty);
  file.append("one\n");
  {
    const test::FileSizeLimit limit(6);
    CHECK_THROWS_WITH(file.append("two\n"), Catch::Contains("File too large"));
    CHECK(read_file(file.path()) == "one\n");
    CHECK_THROWS_AS(file.append("two\n"), IoError);
  }
  file.append("three\n");
  CHECK(read_file(file.path()) == "one\nthree\n");
}

}  // namespace fathom
