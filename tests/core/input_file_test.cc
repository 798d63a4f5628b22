#include "core/input_file.h"

#include <fstream>
#include <string>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom {
namespace {

TEST_CASE("An input file is read at any place, and its end is an error that names it") {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "digits";
  std::ofstream(path) << "0123456789";
  InputFile opened(path);
  const InputFile file(std::move(opened));
  CHECK(file.size_bytes() == 10);
  std::string part(4, '\0');
  file.read_at(3, std::as_writable_bytes(std::span(part)));
  CHECK(part == "3456");
  file.read_at(6, std::as_writable_bytes(std::span(part)));
  CHECK(part == "6789");
  try {
    file.read_at(7, std::as_writable_bytes(std::span(part)));
    FAIL("read beyond the end");
  } catch (const IoError& error) {
    CHECK(error.message().find(path.string()) != std::string::npos);
  }
  CHECK_THROWS_AS(InputFile(folder.path() / "none"), IoError);
}

}  // namespace
}  // namespace fathom
