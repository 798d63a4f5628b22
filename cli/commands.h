#pragma once

#include <span>
#include <string>
#include <string_view>

#include "cli/command_line.h"

namespace fathom::cli {

// One command of the program, in a file of its own.
struct Command {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view help;     // usage, options and examples
  bool uses_ranks;           // false: rank 0 works alone, whatever it was started with
  // -> exit code. Reads its arguments first, as an error in them is the same on all ranks, then
  // starts the session if it uses the others.
  int (*run)(std::span<const std::string> arguments, Session& session);
};

Command pretrain_command();
Command sft_command();
Command grpo_command();
Command generate_command();
Command evaluate_command();
Command train_tokenizer_command();
Command tokenize_command();
Command problems_command();
Command inspect_command();
Command import_hf_command();
Command export_hf_command();

}  // namespace fathom::cli
