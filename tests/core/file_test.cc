#include "core/file.h"

#include <unistd.h>

#include <filesystem>
#include <string>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace fathom;

namespace {

std::string message_of_reading(const std::filesystem::path& path) {
  try {
    read_file(path);
  } catch (const IoError& error) {
    return error.message();
  }
  return "";
}

}  // namespace

TEST_CASE("a file is read back as it was written") {
  const test::TemporaryFolder folder;
  std::string content(300000, 'x');
  content[7] = '\0';
  content[70000] = '\n';
  write_file_atomically(folder.path() / "a", content);
  CHECK(read_file(folder.path() / "a") == content);
  write_file_atomically(folder.path() / "a", "");
  CHECK(read_file(folder.path() / "a").empty());
  CHECK_FALSE(std::filesystem::exists(folder.path() / "a.tmp"));
}

TEST_CASE("a failed write leaves what was there and no temporary") {
  const test::TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "target";
  std::filesystem::create_directory(path);  // a folder cannot be replaced by a file
  CHECK_THROWS_AS(write_file_atomically(path, "new"), IoError);
  CHECK(std::filesystem::is_directory(path));
  CHECK_FALSE(std::filesystem::exists(folder.path() / "target.tmp"));
  CHECK_THROWS_AS(write_file_atomically(folder.path() / "missing" / "a", "new"), IoError);
}

TEST_CASE("a full disk is reported and what was there stays") {
  const std::filesystem::path full = "/dev/full";
  if (!std::filesystem::exists(full)) {
    return;
  }
  const test::TemporaryFolder folder;
  write_file_atomically(folder.path() / "a", "old");
  std::filesystem::create_symlink(full, folder.path() / "a.tmp");
  CHECK_THROWS_AS(write_file_atomically(folder.path() / "a", "new"), IoError);
  CHECK(read_file(folder.path() / "a") == "old");
}

TEST_CASE("an IoError names the operation, the path and the reason") {
  CHECK(message_of_reading("/nowhere/file") == "open /nowhere/file: No such file or directory");
  const test::TemporaryFolder folder;
  const std::string path = folder.path().string();
  CHECK(message_of_reading(folder.path()) == "read " + path + ": Is a directory");
  CHECK_THROWS_AS(sync_folder(folder.path() / "missing"), IoError);
  CHECK_THROWS_AS(rename_durably(folder.path() / "missing", folder.path() / "b"), IoError);
}

TEST_CASE("rename_durably moves files and folders, and relative paths work") {
  const test::TemporaryFolder folder;
  write_file_atomically(folder.path() / "a", "1");
  rename_durably(folder.path() / "a", folder.path() / "b");
  CHECK(read_file(folder.path() / "b") == "1");
  std::filesystem::create_directory(folder.path() / "c");
  rename_durably(folder.path() / "c", folder.path() / "d");
  CHECK(std::filesystem::is_directory(folder.path() / "d"));
  sync_folder(folder.path());

  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  write_file_atomically("relative", "2");
  CHECK(read_file("relative") == "2");
  std::filesystem::current_path(before);
}

TEST_CASE(
    "create_folder_of makes all folders above a file, and names the one that cannot be made") {
  const test::TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "a" / "b" / "c.txt";
  create_folder_of(file);
  CHECK(std::filesystem::is_directory(file.parent_path()));
  CHECK_FALSE(std::filesystem::exists(file));
  CHECK_NOTHROW(create_folder_of(file));
  CHECK_NOTHROW(create_folder_of("relative"));
  write_file_atomically(file, "1");
  CHECK_THROWS_WITH(create_folder_of(file / "d" / "e"),
                    Catch::Contains("make folder " + (file / "d").string()));
}

TEST_CASE("Numbered names sort as their numbers do") {
  CHECK(numbered_name("step-", 200) == "step-00000200");
  CHECK(numbered_name("group-", 0, ".pb") == "group-00000000.pb");
  CHECK(numbered_name("step-", 99'999'999) == "step-99999999");
  CHECK(numbered_name("step-", 1'234'567'890, ".jsonl") == "step-1234567890.jsonl");
}
