#pragma once

#include <string>
#include <string_view>

namespace fathom::parallel {

// MPI's own words for an error code.
std::string mpi_error_text(int error);
// Throws CommError naming the call unless `error` is MPI_SUCCESS.
void check_mpi(int error, std::string_view call);

}  // namespace fathom::parallel
