#pragma once

namespace fathom::cli {

// Throws IoError when what was written to std::cout was not taken: a reader that has gone, a full
// disk.
void flush_standard_output();

}  // namespace fathom::cli
