#pragma once

#include <string>

#include "core/error.h"

namespace fathom::test {

// The message of the CommError that body() ends in; empty when there is none.
template <class Body>
std::string comm_error_of(const Body& body) {
  try {
    body();
  } catch (const CommError& error) {
    return error.message();
  }
  return {};
}

}  // namespace fathom::test
