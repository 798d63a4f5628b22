#include "cli/commands.h"
#include "cli/train.h"
#include "trainer/chat_data.h"

namespace fathom::cli {
namespace {

constexpr std::string_view kHelp =
    R"(usage: [mpirun -n RANKS] fathom sft CONFIG [--set PATH=VALUE]... [--resume auto|none|STEP] [--dry_run]

Fine-tunes a trained model on conversations: the loss is that of the assistant's messages alone. train.init_from names the checkpoint
whose weights it starts from; data.train and data.validation are files with a conversation a line:

  {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}, ...]}
  {"prompt": "...", "completion": "..."}

data.tokenizer turns them into tokens, with the chat template data.chat around the messages (DeepSeek-V3's by default). Whole
conversations are packed into sequences of train.sequence_length tokens, isolated from each other. Anything else is as in pretrain.

  --set PATH=VALUE   sets any field of the config; may be given more than once
  --resume auto      continues from the newest checkpoint of the run folder, if there is one (default)
  --resume none      starts anew, from train.init_from
  --resume STEP      continues from the checkpoint of that step
  --dry_run          prints mesh, parameters and bytes per rank, and stops; give mesh.data: without mpirun it has no ranks to fill it from
                     and takes 1

example:
  mpirun -n 4 fathom sft configs/runs/chat.textproto --set train.init_from=runs/quickstart/checkpoints/step-00000900

docs/configuration.md has a config to begin with.
)";

int run(std::span<const std::string> arguments, Session& session) {
  return train(arguments, session,
               {.use = config::Use::kFineTuning,
                .open =
                    [](const config::RunConfig& config) {
                      return open_data_task(config, trainer::open_chat_data);
                    },
                .needs_weights = true});
}

}  // namespace

Command sft_command() {
  return {.name = "sft",
          .summary = "fine-tunes a model on conversations",
          .help = kHelp,
          .uses_ranks = true,
          .run = run};
}

}  // namespace fathom::cli
