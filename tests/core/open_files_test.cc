#include "core/open_files.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/input_file.h"
#include "tests/support/catch.h"
#include "tests/support/open_file_limit.h"

namespace fathom {
namespace {

// Counts how many of it there are.
class Counted {
 public:
  Counted(std::string name, int& count) : name_(std::move(name)), count_(&count) { ++*count_; }
  Counted(Counted&& other) noexcept : name_(std::move(other.name_)), count_(other.count_) {
    ++*count_;
  }
  Counted& operator=(Counted&&) = delete;
  ~Counted() { --*count_; }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  int* count_;
};

TEST_CASE("Of the files wanted, those wanted last stay open, and those that are held") {
  int num_open = 0;
  std::vector<std::string> opened;
  OpenFiles<Counted> files(2);
  const auto get = [&](const std::string& name) {
    return files.get(name, [&] {
      opened.push_back(name);
      return Counted(name, num_open);
    });
  };
  CHECK(get("a")->name() == "a");
  CHECK(get("b")->name() == "b");
  get("a");
  get("c");  // closes b: a was wanted after it
  CHECK(num_open == 2);
  get("a");
  CHECK(opened == std::vector<std::string>{"a", "b", "c"});
  const auto held = get("b");
  get("c");
  get("d");
  CHECK(num_open == 3);
  CHECK(held->name() == "b");
  CHECK(opened == std::vector<std::string>{"a", "b", "c", "b", "c", "d"});
}

TEST_CASE("A file that cannot be opened leaves no trace") {
  OpenFiles<int> files(1);
  CHECK_THROWS_AS(files.get("a", []() -> int { throw IoError("no"); }), IoError);
  CHECK(*files.get("a", [] { return 3; }) == 3);
}

TEST_CASE("The limit on open files goes up to what the system allows, and never down") {
  struct rlimit at_start{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &at_start) == 0);
  const test::OpenFileLimit low(48);
  CHECK(open_file_limit() == 48);
  raise_open_file_limit();
  const auto allowed = static_cast<std::int64_t>(std::min<rlim_t>(at_start.rlim_max, 65'536));
  CHECK(open_file_limit() == allowed);
  raise_open_file_limit();
  CHECK(open_file_limit() == allowed);
}

TEST_CASE("An error for want of file descriptors says how many there may be") {
  // Once with descriptors: a sanitizer opens files to look at a type that it has not seen before.
  CHECK_THROWS_AS(throw_io_error("open", "/dev/null", EMFILE), IoError);
  const test::OpenFileLimit low(48);
  std::vector<InputFile> files;
  try {
    while (files.size() < 100) {
      files.emplace_back("/dev/null");
    }
    FAIL("100 files are open");
  } catch (const IoError& error) {
    files.clear();
    CHECK(error.message().find("/dev/null") != std::string::npos);
    CHECK(error.message().find("48") != std::string::npos);
    CHECK(error.message().find("ulimit -n") != std::string::npos);
  }
}

}  // namespace
}  // namespace fathom
