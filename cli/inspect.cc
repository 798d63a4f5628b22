#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/inspect_checkpoint.h"
#include "cli/inspect_data.h"
#include "cli/standard_output.h"
#include "core/error.h"
#include "trainer/checkpoint/catalog.h"

namespace fathom::cli {
namespace {

constexpr std::string_view kHelp =
    R"(usage: fathom inspect PATH [--verify] [--tensors]
       fathom inspect PATH --step N --config CONFIG [--set PATH=VALUE]...

Shows what is in a file. PATH is one of
  a token shard, or the folder or prefix that tokenize wrote
  a checkpoint (RUN/checkpoints/step-NNNNNNNN), or a run folder, whose checkpoints are listed
  a config: short for --config

  --verify            reads everything and checks it against its checksums
  --tensors           lists the tensors of a checkpoint
  --step N            shows which samples step N of the run described by CONFIG reads, and of which documents they are
                      made; of those, the ones that read from the shards at PATH
  --config CONFIG     a config, best the resolved one in the run folder
  --set PATH=VALUE    sets any field of the config

examples:
  fathom inspect data/train-00000-of-00004.h5 --verify
  fathom inspect runs/quickstart/checkpoints/step-00000900 --tensors
  fathom inspect runs/quickstart/config.textproto --step 100
  fathom inspect data/train-00000-of-00004.h5 --step 100 --config runs/quickstart/config.textproto
)";

int run(std::span<const std::string> arguments, Session& /*session*/) {
  using Kind = OptionSpec::Kind;
  const ParsedOptions options(arguments, {{"step"},
                                          {"config"},
                                          {"set", Kind::kValues},
                                          {"verify", Kind::kFlag},
                                          {"tensors", Kind::kFlag}});
  if (options.positional().size() != 1) {
    throw ConfigError(concat("want one PATH, given ", options.positional().size()));
  }
  const std::filesystem::path path = options.positional().front();
  const bool is_config = path.extension() == ".textproto";
  if (options.has("step") || is_config) {
    StepQuestion question;
    question.step = options.integer("step", 1, INT64_MAX);
    question.config = is_config ? path : std::filesystem::path(options.required("config"));
    question.overrides = options.values("set");
    question.shards = is_config ? "" : path;
    print_step_samples(question, std::cout);
  } else if (is_checkpoint(path)) {
    print_checkpoint(path,
                     {.lists_tensors = options.has("tensors"), .verifies = options.has("verify")},
                     std::cout);
  } else if (const auto checkpoints = trainer::checkpoints_of_run(path)) {
    print_checkpoint_list(*checkpoints, std::cout);
  } else {
    print_shards(path, options.has("verify"), std::cout);
  }
  flush_standard_output();
  return kExitDone;
}

}  // namespace

Command inspect_command() {
  return {.name = "inspect",
          .summary = "shows what is in a token shard or a checkpoint",
          .help = kHelp,
          .uses_ranks = false,
          .run = run};
}

}  // namespace fathom::cli
