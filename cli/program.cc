#include "cli/program.h"

#include <algorithm>
#include <array>
#include <exception>
#include <iomanip>
#include <iostream>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/session.h"
#include "cli/standard_output.h"
#include "core/error.h"
#include "parallel/comm/agree.h"

namespace fathom::cli {
namespace {

std::array<Command, 11> all_commands() {
  return {pretrain_command(),  sft_command(),      grpo_command(),
          generate_command(),  evaluate_command(), train_tokenizer_command(),
          tokenize_command(),  problems_command(), inspect_command(),
          import_hf_command(), export_hf_command()};
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

// Reports the error that ends the program, once: from rank 0 when all ranks share it, else from the
// rank that met it, which takes the others down.
int fail(const std::exception& error, Session& session) {
  const Ending ending = ending_of(error, session.phase());
  const bool is_of_arguments =
      !session.is_started() && dynamic_cast<const ConfigError*>(&error) != nullptr;
  if (is_of_arguments && session.rank() != 0) {
    // Rank 0 says it and gives the exit code. One given here could end the job before it has
    // spoken.
    return kExitDone;
  }
  const bool is_shared = dynamic_cast<const parallel::SharedError*>(&error) != nullptr;
  if (is_shared && session.rank() != 0) {
    session.finish();
    return ending.exit_code;
  }
  const std::string rank = session.is_parallel() && !is_shared && !is_of_arguments
                               ? concat("rank ", session.rank(), ": ")
                               : "";
  std::cerr << concat("fathom: ", rank, ending.message, '\n') << std::flush;
  if (session.is_started() && session.is_parallel() && !is_shared) {
    session.abort(ending.exit_code);
  }
  session.finish();
  return ending.exit_code;
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
      flush_standard_output();
    }
    return kExitDone;
  }
  const Command command = find_command(arguments.front());
  const std::span<const std::string> rest = arguments.subspan(1);
  if (asks_for_help(rest)) {
    if (speaks) {
      std::cout << command.help;
      flush_standard_output();
    }
    return kExitDone;
  }
  if (!command.uses_ranks && !speaks) {
    return kExitDone;
  }
  return command.run(rest, session);
}

int run_to_exit(std::span<const std::string> arguments, Session& session) {
  try {
    const int exit_code = run_program(arguments, session);
    session.finish();
    return exit_code;
  } catch (const std::exception& error) {
    return fail(error, session);
  }
}

}  // namespace fathom::cli
