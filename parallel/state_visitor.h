#pragma once

#include <cstdint>
#include <string>

#include "core/shape.h"
#include "core/tensor.h"

namespace fathom::parallel {

// A rectangle of a published tensor held by this rank: rows x columns of the global shape (one
// dimension: a single row).
struct StateSlice {
  std::string key;
  Shape global_shape;
  std::int64_t row_begin = 0, num_rows = 0;
  std::int64_t column_begin = 0, num_columns = 0;
  // Exactly one rank of the job owns each element and writes it to a checkpoint; others only load
  // it.
  bool is_owner = true;
};

// One traversal of everything that a run must keep serves save, load, hash and memory accounting,
// so that no state is forgotten. Call visit_state(visitor) on an object; the visitor reads or
// writes through the tensors it is shown.
class StateVisitor {
 public:
  enum class Access {
    kLook,   // at names, shapes and dtypes
    kRead,   // the elements
    kWrite,  // all elements of those tensors that it does not leave as they are
  };
  virtual ~StateVisitor() = default;
  // What the visitor does with every tensor.
  virtual Access access() const noexcept = 0;
  // `local` holds slice.num_rows * slice.num_columns elements, row-major and contiguous.
  virtual void tensor(const StateSlice& slice, Tensor& local) = 0;
  // The same on all ranks, e.g. step, tokens seen.
  virtual void integer(const std::string& key, std::int64_t& value) = 0;
};

}  // namespace fathom::parallel
