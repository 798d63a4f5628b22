#include "tests/support/paths.h"

namespace fathom::test {

std::string source_path(const std::string& relative) {
  return std::string(FATHOM_SOURCE_DIR "/") + relative;
}

std::string build_path(const std::string& relative) {
  return std::string(FATHOM_BINARY_DIR "/") + relative;
}

}  // namespace fathom::test
