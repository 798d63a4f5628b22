#pragma once

#include <span>
#include <string>

namespace fathom::cli {

class Session;

// fathom ARGUMENTS: finds the command, answers --help, runs it. -> exit code; errors are thrown.
int run_program(std::span<const std::string> arguments, Session& session);

// The same; reports an error that ends the program on standard error and returns its exit code.
int run_to_exit(std::span<const std::string> arguments, Session& session);

}  // namespace fathom::cli
