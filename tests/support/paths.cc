#include "tests/support/paths.h"

#include <cstdlib>

namespace fathom::test {

// A program that was moved to another machine is told where its files lie now.
std::string source_path(const std::string& relative) {
  const char* moved = std::getenv("FATHOM_SOURCE_DIR");
  return std::string(moved != nullptr ? moved : FATHOM_SOURCE_DIR) + "/" + relative;
}

std::string build_path(const std::string& relative) {
  return std::string(FATHOM_BINARY_DIR "/") + relative;
}

}  // namespace fathom::test
