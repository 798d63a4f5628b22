#include <csignal>
#include <string>
#include <vector>

#include "cli/program.h"
#include "cli/session.h"
#include "core/open_files.h"

int main(int argc, char** argv) {
  // A file size limit and a reader that has gone fail the write, which says so.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  fathom::raise_open_file_limit();
  const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  fathom::cli::Session session;
  return fathom::cli::run_to_exit(arguments, session);
}
