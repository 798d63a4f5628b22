#include <iostream>
#include <string>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/progress_line.h"
#include "cli/session.h"
#include "core/error.h"
#include "trainer/hf/import.h"

namespace fathom::cli {
namespace {

constexpr std::string_view kHelp =
    R"(usage: [mpirun -n RANKS] fathom import-hf FOLDER --out RUN [--tokenizer FILE]

Makes a run folder of a DeepSeek-V2, V2-Lite or V3 model as Hugging Face has it: FOLDER holds config.json, tokenizer.json and
model.safetensors, or the files of model.safetensors.index.json; weights in F32, BF16, F16, or F8_E4M3 with block scales. RUN gets a
checkpoint of step 0 with the weights in float32, tokenizer.json, model.textproto and chat.textproto. Everything is checked first:
a folder that is damaged or of another model is refused, and nothing is written. Ranks share the work; each needs under 300 MB of
memory, however large the model. It reads every file once and takes 4 bytes a weight on the disk.

  --out RUN          the run folder to make; must not exist
  --tokenizer FILE   another tokenizer.json than the folder's

RUN is then what every command takes:
  fathom generate RUN --prompt TEXT
  fathom sft CONFIG --set train.init_from=RUN      CONFIG being in the current folder, with model_from: "RUN/model.textproto"
                                                   data { tokenizer: "RUN/tokenizer.json" chat_from: "RUN/chat.textproto" }
  fathom export-hf RUN --out FOLDER

example:
  mpirun -n 8 fathom import-hf DeepSeek-V2-Lite --out runs/v2-lite
)";

int run(std::span<const std::string> arguments, Session& session) {
  const ParsedOptions given(arguments, {{"out"}, {"tokenizer"}});
  if (given.positional().size() != 1) {
    throw ConfigError(concat("want one FOLDER, given ", given.positional().size()));
  }
  trainer::ImportOptions options{.folder = given.positional().front(),
                                 .tokenizer = given.value("tokenizer").value_or(""),
                                 .out = given.required("out"),
                                 .progress = {}};
  session.start();
  session.begin_running();
  ProgressLine line(session.rank() == 0);
  options.progress = [&line](std::int64_t done, std::int64_t total) { line.show(done, total); };
  const trainer::ImportSummary summary = trainer::import_hf(options, session.world());
  if (session.rank() == 0) {
    for (const std::string& note : summary.notes) {
      std::cerr << concat("note: ", note, '\n');
    }
    std::cout << concat("imported ", summary.num_tensors, " tensors, ", summary.size_bytes,
                        " bytes, in ", line.seconds(), " s: ", options.out.string(), '\n')
              << std::flush;
  }
  return kExitDone;
}

}  // namespace

Command import_hf_command() {
  return {.name = "import-hf",
          .summary = "makes a run folder of a Hugging Face model",
          .help = kHelp,
          .uses_ranks = true,
          .run = run};
}

}  // namespace fathom::cli
