#pragma once

#include <algorithm>
#include <cstdint>

namespace fathom::kernels::cpu {

// Calls body(row, column, first, last) for each part of a row of num_columns elements that the
// elements [begin, end) of a matrix have: [first, last) of them, from that column on.
template <class Body>
void for_each_row_part(std::int64_t begin, std::int64_t end, std::int64_t num_columns,
                       const Body& body) {
  while (begin < end) {
    const std::int64_t row = begin / num_columns;
    const std::int64_t last = std::min(end, (row + 1) * num_columns);
    body(row, begin - row * num_columns, begin, last);
    begin = last;
  }
}

}  // namespace fathom::kernels::cpu
