#include "cli/standard_output.h"

#include <cerrno>
#include <iostream>

#include "core/error.h"

namespace fathom::cli {

void flush_standard_output() {
  if (!std::cout.flush()) {
    // The stream does not keep why.
    throw IoError("standard output cannot be written: its reader has gone, or its disk is full",
                  EIO);
  }
}

}  // namespace fathom::cli
