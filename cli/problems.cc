#include <cstdint>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/problem_options.h"
#include "core/error.h"
#include "core/file.h"
#include "rl/problems/generator.h"
#include "rl/problems/problem.h"

namespace fathom::cli {
namespace {

constexpr std::string_view kHelp =
    R"(usage: fathom problems FAMILY --count N --output FILE [--difficulty D] [--split train|held_out]
         [--seed S] [--text] [--worked]

Writes problems with verifiable answers as JSON lines, {"id", "prompt", "answer", "verifier"}. Training and held-out problems are
never the same ones, whatever their seeds, counts and difficulties.

FAMILY and its difficulty D:
  arithmetic           digits of an operand, 1 to 18 (every problem carries or borrows)
  countdown            numbers to combine, 2 to 6
  sorting              digits to sort, 2 to 64
  linear_equation      1: unknown on one side, 2: on both, 3: with a solution that is no integer
  knights_and_knaves   people, 2 to 6

  --count N        how many problems
  --output FILE    where they go; the folder is made if need be, and what is there replaced
  --difficulty D   default: the easiest of the family
  --split SPLIT    train or held_out (default train)
  --seed S         another seed, other problems (default 0)
  --worked         write {"prompt", "completion"} instead, which sft reads: a solution step by step,
                   <think>...</think><answer>...</answer>, for a cold start; with --text both in one text
  --text           write {"text": prompt and answer} instead, which tokenize reads: text for a warm start

example:
  fathom problems sorting --difficulty 8 --count 20000 --output train.jsonl
  fathom problems sorting --difficulty 8 --count 512 --split held_out --output held_out.jsonl
)";

std::string text_line(const std::string& prompt, const std::string& answer) {
  return nlohmann::json{{"text", prompt + answer + "\n"}}.dump();
}

std::string line_of(const rl::ProblemSet& set, std::uint64_t index, const ParsedOptions& options) {
  const rl::WorkedProblem worked = rl::generate_worked_problem(set, index);
  const rl::Problem& problem = worked.problem;
  if (options.has("text")) {
    return text_line(problem.prompt, options.has("worked") ? worked.solution() : problem.answer);
  }
  if (options.has("worked")) {
    return nlohmann::ordered_json{{"prompt", problem.prompt}, {"completion", worked.solution()}}
        .dump();
  }
  return rl::to_json_line(problem);
}

int run(std::span<const std::string> arguments, Session& /*session*/) {
  std::vector<OptionSpec> specs = family_option_specs("seed");
  specs.insert(
      specs.end(),
      {{"output"}, {"text", OptionSpec::Kind::kFlag}, {"worked", OptionSpec::Kind::kFlag}});
  const ParsedOptions options(arguments, specs);
  if (options.positional().size() != 1) {
    throw ConfigError(concat("want one FAMILY of problems, given ", options.positional().size()));
  }
  const FamilyProblems wanted = read_family_problems(options.positional().front(), options, "seed");
  const std::string output = options.required("output");
  create_folder_of(output);
  std::string lines;
  for (std::int64_t index = 0; index < wanted.count; ++index) {
    lines += line_of(wanted.set, static_cast<std::uint64_t>(index), options);
    lines += '\n';
  }
  write_file_atomically(output, lines);
  std::cout << concat(output, ": ", wanted.count, " problems\n");
  return kExitDone;
}

}  // namespace

Command problems_command() {
  return {.name = "problems",
          .summary = "writes problems with verifiable answers",
          .help = kHelp,
          .uses_ranks = false,
          .run = run};
}

}  // namespace fathom::cli
