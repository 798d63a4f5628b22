#pragma once

#include <string>

namespace fathom::test {

// Absolute paths of files of the source tree and of the build. One object file knows the folders,
// so that all others are the same in every checkout and come out of the compiler cache.
std::string source_path(const std::string& relative);
std::string build_path(const std::string& relative);

}  // namespace fathom::test
