#pragma once

#include <string>

#include "configs/schema/run.pb.h"

namespace fathom::config {

// The config as text that load() reads back to the same message, floats with every digit that
// matters.
std::string to_text(const RunConfig& config);

}  // namespace fathom::config
