#include <memory>

#include "cli/commands.h"
#include "cli/train.h"
#include "rl/grpo_task.h"

namespace fathom::cli {
namespace {

constexpr std::string_view kHelp =
    R"(usage: [mpirun -n RANKS] fathom grpo CONFIG [--set PATH=VALUE]... [--resume auto|none|STEP] [--dry_run]

Teaches a trained model by reinforcement: each step samples completions of problems from the model itself, scores them, and makes
those that did better than the others of their problem more likely. train.init_from names the checkpoint whose weights it starts
from; grpo.problems are files of problems or built-in families of them (fathom problems --help):

  {"id": "...", "prompt": "...", "answer": "...", "verifier": "number"}

grpo.rewards say what a completion is worth: accuracy, format, language, length, or a command of your own. Sampling runs in the
training processes, on the training weights. In EXACT mode the sampler's log-probabilities are the trainer's, bit for bit: the first
ratio of each step is exactly 1, which the run checks.

The run folder gets what pretrain writes, samples/step-NNNNNNNN.jsonl with every completion, and, with
rollout.checkpoint_interval above 0, rollout/ with what was sampled since the last checkpoint.

  --set PATH=VALUE   sets any field of the config; may be given more than once
  --resume auto      continues from the newest checkpoint of the run folder, if there is one (default)
  --resume none      starts anew, from train.init_from
  --resume STEP      continues from the checkpoint of that step
  --dry_run          prints mesh, parameters and bytes per rank, and stops; give mesh.data: without mpirun it has no ranks to fill it from
                     and takes 1

example:
  mpirun -n 2 fathom grpo reason.textproto --set train.init_from=runs/base/checkpoints/step-00000300
)";

OpenedTask open(const config::RunConfig& config) {
  const auto sources = std::make_shared<const rl::GrpoSources>(config);
  return {sources->tokenizer->hash(), [sources](trainer::TrainingLoop& loop) {
            return std::make_unique<rl::GrpoTask>(loop, *sources);
          }};
}

int run(std::span<const std::string> arguments, Session& session) {
  return train(arguments, session,
               {.use = config::Use::kReinforcement, .open = open, .needs_weights = true});
}

}  // namespace

Command grpo_command() {
  return {.name = "grpo",
          .summary = "teaches a model by reinforcement on verifiable problems",
          .help = kHelp,
          .uses_ranks = true,
          .run = run};
}

}  // namespace fathom::cli
