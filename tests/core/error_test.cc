#include "core/error.h"

#include <string>

#include "tests/support/catch.h"

using namespace fathom;

TEST_CASE("an error names its kind, its place and what was going on") {
  std::string text;
  try {
    try {
      throw ConfigError(concat("mesh.tensor (", 3, ") does not divide ", 32));
    } catch (Error& error) {
      throw error.add_context("checking run.textproto");
    }
  } catch (const Error& error) {
    text = error.what();
    CHECK(error.message() == "mesh.tensor (3) does not divide 32\n  while checking run.textproto");
  }
  CHECK(text.find("config: mesh.tensor (3) does not divide 32 [core/error_test.cc:") == 0);
  CHECK(text.find("\n  while checking run.textproto") != std::string::npos);
}

TEST_CASE("FATHOM_CHECK shows the condition and the numbers") {
  const int rows = 3;
  FATHOM_CHECK(rows == 3);
  std::string message;
  try {
    FATHOM_CHECK(rows == 4, "rows ", rows);
  } catch (const InternalError& error) {
    message = error.message();
  }
  CHECK(message == "check failed: rows == 4: rows 3");
}
