#include "cli/commands.h"
#include "cli/train.h"
#include "trainer/token_data.h"

namespace fathom::cli {
namespace {

constexpr std::string_view kHelp =
    R"(usage: [mpirun -n RANKS] fathom pretrain CONFIG [--set PATH=VALUE]... [--resume auto|none|STEP] [--dry_run]

Trains a model on token shards. CONFIG is a file like those in configs/runs/; its fields are described in configs/schema/.
The run folder (run.directory) gets the resolved config, metrics.jsonl, checkpoints and logs.

  --set PATH=VALUE   sets any field of the config; may be given more than once
  --resume auto      continues from the newest checkpoint of the run folder, if there is one (default)
  --resume none      starts anew
  --resume STEP      continues from the checkpoint of that step
  --dry_run          prints mesh, parameters and bytes per rank, and stops; give mesh.data: without mpirun it has no ranks to fill it from
                     and takes 1

examples:
  mpirun -n 4 fathom pretrain configs/runs/quickstart.textproto
  mpirun -n 4 fathom pretrain configs/runs/quickstart.textproto --set mesh.tensor=2 --set mesh.pipeline=1
  fathom pretrain configs/runs/quickstart.textproto --dry_run
)";

int run(std::span<const std::string> arguments, Session& session) {
  return train(arguments, session,
               {.use = config::Use::kPretraining, .open = [](const config::RunConfig& config) {
                  return open_data_task(config, trainer::open_token_data);
                }});
}

}  // namespace

Command pretrain_command() {
  return {.name = "pretrain",
          .summary = "trains a model on token shards",
          .help = kHelp,
          .uses_ranks = true,
          .run = run};
}

}  // namespace fathom::cli
