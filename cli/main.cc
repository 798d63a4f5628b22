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
  const bool is_shared = dynamic_cast<const fathom::cli::SharedFailure*>(&error) != nullptr;
  if (!session.is_started() || !session.is_parallel() || is_shared) {
    if (session.rank() == 0) {
      std::cerr << fathom::concat("fathom: ", ending.message, '\n') << std::flush;
    }
    session.finish();
    return ending.exit_code;
  }
  std::cerr << fathom::concat("fathom: rank ", session.rank(), ": ", ending.message, '\n')
            << std::flush;
  session.abort(ending.exit_code);
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
