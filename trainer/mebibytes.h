#pragma once

#include <cstdint>
#include <string>

namespace fathom::trainer {

// A column of a table: twelve characters, one digit after the point.
std::string mebibytes(std::int64_t bytes);

}  // namespace fathom::trainer
