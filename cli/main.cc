#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "cli/exit_code.h"
#include "cli/program.h"
#include "cli/session.h"
#include "core/error.h"

namespace {

// Reports the error that ends the program, once: from rank 0 when all ranks share it, else from the
// rank that met it, which takes the others down.
int fail(const std::exception& error, fathom::cli::Session& session) {
  const fathom::cli::Ending ending = fathom::cli::ending_of(error, session.phase());
  const bool is_of_arguments =
      !session.is_started() && dynamic_cast<const fathom::ConfigError*>(&error) != nullptr;
  if (is_of_arguments && session.rank() != 0) {
    // Rank 0 says it and gives the exit code. One given here could end the job before it has
    // spoken.
    return fathom::cli::kExitDone;
  }
  const bool is_shared = dynamic_cast<const fathom::cli::SharedFailure*>(&error) != nullptr;
  if (is_shared && session.rank() != 0) {
    session.finish();
    return ending.exit_code;
  }
  const std::string rank = session.is_parallel() && !is_shared && !is_of_arguments
                               ? fathom::concat("rank ", session.rank(), ": ")
                               : "";
  std::cerr << fathom::concat("fathom: ", rank, ending.message, '\n') << std::flush;
  if (session.is_started() && session.is_parallel() && !is_shared) {
    session.abort(ending.exit_code);
  }
  session.finish();
  return ending.exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  fathom::cli::Session session;
  try {
    const int exit_code = fathom::cli::run_program(arguments, session);
    session.finish();
    return exit_code;
  } catch (const std::exception& error) {
    return fail(error, session);
  }
}
