#include "trainer/mebibytes.h"

#include <iomanip>
#include <sstream>

namespace fathom::trainer {

std::string mebibytes(std::int64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << std::setw(12)
      << static_cast<double>(bytes) / (1024.0 * 1024.0);
  return out.str();
}

}  // namespace fathom::trainer
