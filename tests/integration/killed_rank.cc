// killed_rank RANK STEP PHASE ARGUMENT...: `fathom ARGUMENT...`, but this rank dies by SIGKILL as
// it begins that phase in that step (0: before the first), as its heartbeat names them. Says so
// first:
//   "killed at <ms since the epoch> in <phase>"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <string>
#include <vector>

#include "cli/program.h"
#include "cli/session.h"
#include "core/error.h"
#include "parallel/comm/heartbeat.h"

namespace {

struct Death {
  std::int64_t step = 0;
  std::string phase;  // "": this rank lives
};

// What is called below has no argument to give it by.
Death& death() {
  static Death instance;
  return instance;
}

void die_if_due(const fathom::parallel::Heartbeat& heartbeat, const char* phase) {
  if (death().phase != phase || heartbeat.read().step != death().step) {
    return;
  }
  timespec now{};
  std::timespec_get(&now, TIME_UTC);
  std::cerr << fathom::concat("killed at ", now.tv_sec * 1000 + now.tv_nsec / 1'000'000, " in ",
                              phase, '\n')
            << std::flush;
  std::raise(SIGKILL);
}

}  // namespace

// The linker puts the second in the place of Heartbeat::begin_phase, and that in the place of the
// first (--wrap in CMakeLists.txt): the program itself needs no way to be broken.
void begin_phase(fathom::parallel::Heartbeat* heartbeat,
                 const char* phase) asm("__real__ZN6fathom8parallel9Heartbeat11begin_phaseEPKc");
void begin_phase_or_die(fathom::parallel::Heartbeat* heartbeat, const char* phase) asm(
    "__wrap__ZN6fathom8parallel9Heartbeat11begin_phaseEPKc");

void begin_phase_or_die(fathom::parallel::Heartbeat* heartbeat, const char* phase) {
  begin_phase(heartbeat, phase);
  die_if_due(*heartbeat, phase);
}

int main(int argc, char** argv) {
  if (argc < 5) {
    std::cerr << "usage: killed_rank RANK STEP PHASE ARGUMENT...\n";
    return 2;
  }
  fathom::cli::Session session;
  if (session.rank() == std::atoi(argv[1])) {
    death() = {std::atoll(argv[2]), argv[3]};
  }
  const std::vector<std::string> arguments(argv + 4, argv + argc);
  return fathom::cli::run_to_exit(arguments, session);
}
