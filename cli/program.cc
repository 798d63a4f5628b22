#include "cli/program.h"

#include <algorithm>
#include <array>
#include <iomanip>
#include <iostream>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/session.h"
#include "core/error.h"

namespace fathom::cli {
namespace {

std::array<Command, 4> all_commands() {
  return {pretrain_command(), train_tokenizer_command(), tokenize_command(), inspect_command()};
}

void print_overview(std::ostream& out) {
  out << "Trains DeepSeek-style language models on many processes.\n\n"
         "usage: [mpirun -n RANKS] fathom COMMAND [ARGUMENTS]\n"
         "       fathom COMMAND --help\n\n"
         "commands:\n";
  for (const Command& command : all_commands()) {
    out << "  " << std::left << std::setw(18) << command.name << command.summary << '\n';
  }
  out << "\nexit code: 0 done, 75 stopped on request after a checkpoint, 93 config or data "
         "unusable,\n"
         "           124 hung, 1 anything else\n";
}

bool asks_for_help(std::span<const std::string> arguments) {
  return std::find(arguments.begin(), arguments.end(), "--help") != arguments.end();
}

Command find_command(const std::string& name) {
  std::string names;
  for (const Command& command : all_commands()) {
    if (command.name == name) {
      return command;
    }
    names += concat(names.empty() ? "" : ", ", command.name);
  }
  throw ConfigError(concat("no command \"", name, "\"; there are ", names));
}

}  // namespace

int run_program(std::span<const std::string> arguments, Session& session) {
  const bool speaks = session.rank() == 0;
  if (arguments.empty()) {
    if (!speaks) {
      return kExitDone;  // rank 0 gives the exit code
    }
    print_overview(std::cerr);
    return kExitUnusable;
  }
  if (arguments.front() == "--help" || arguments.front() == "help") {
    if (speaks) {
      print_overview(std::cout);
    }
    return kExitDone;
  }
  const Command command = find_command(arguments.front());
  const std::span<const std::string> rest = arguments.subspan(1);
  if (asks_for_help(rest)) {
    if (speaks) {
      std::cout << command.help;
    }
    return kExitDone;
  }
  if (!command.uses_ranks && !speaks) {
    return kExitDone;
  }
  return command.run(rest, session);
}

}  // namespace fathom::cli
