#include <charconv>
#include <cmath>
#include <iostream>
#include <string>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/progress_line.h"
#include "cli/session.h"
#include "cli/stored_model.h"
#include "core/error.h"
#include "parallel/comm/agree.h"
#include "trainer/hf/export.h"

namespace fathom::cli {
namespace {

constexpr std::string_view kHelp =
    R"(usage: [mpirun -n RANKS] fathom export-hf PATH --out FOLDER [--dtype BF16|FP32|FP8] [--shard_size SIZE] [--set PATH=VALUE]...

Makes a Hugging Face folder of a trained model: config.json, generation_config.json, tokenizer.json, tokenizer_config.json with the chat
template, and safetensors under the published names of DeepSeek-V2 or V3. PATH is a checkpoint (RUN/checkpoints/step-NNNNNNNN), or a run
folder, whose newest is taken, written on any layout. A model that config.json cannot describe is refused with the field that it
cannot. Ranks share the files, so there should be some for each; each rank needs under 300 MB of memory, however large the model.

  --out FOLDER         the folder to make; must not exist
  --dtype BF16         of the weights (default), or FP32, or FP8: E4M3 with a scale for each 128 x 128 elements, as V3 is published
  --shard_size SIZE    bytes of tensors in a file, unless one tensor alone has more; with KB, MB or GB (default 5GB)
  --set PATH=VALUE     sets a field of the run's config: data.tokenizer, data.chat, data.document_start, model.yarn

example:
  mpirun -n 8 fathom export-hf runs/chat --out chat-hf
)";

trainer::WeightDType read_dtype(const ParsedOptions& given) {
  const std::string name = given.value("dtype").value_or("BF16");
  if (name == "BF16") {
    return trainer::WeightDType::kBFloat16;
  }
  if (name == "FP32") {
    return trainer::WeightDType::kFloat32;
  }
  if (name == "FP8") {
    return trainer::WeightDType::kFloat8E4M3;
  }
  throw ConfigError(concat("--dtype ", name, ": want BF16, FP32 or FP8"));
}

std::int64_t read_shard_size(const ParsedOptions& given) {
  const std::string text = given.value("shard_size").value_or("5GB");
  double number = 0.0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string unit(stop, text.data() + text.size());
  const double factor = unit.empty()   ? 1.0
                        : unit == "KB" ? 1e3
                        : unit == "MB" ? 1e6
                        : unit == "GB" ? 1e9
                                       : NAN;
  constexpr double kMost = 1e15;
  if (error != std::errc() || !(number * factor >= 1.0 && number * factor <= kMost)) {
    throw ConfigError(concat("--shard_size ", text, ": want a size like 5GB, 500MB or 100000"));
  }
  return static_cast<std::int64_t>(number * factor);
}

int run(std::span<const std::string> arguments, Session& session) {
  const ParsedOptions given(
      arguments, {{"out"}, {"dtype"}, {"shard_size"}, {"set", OptionSpec::Kind::kValues}});
  if (given.positional().size() != 1) {
    throw ConfigError(
        concat("want one PATH, a checkpoint or a run folder; given ", given.positional().size()));
  }
  trainer::ExportOptions options{.checkpoint = {},
                                 .out = given.required("out"),
                                 .dtype = read_dtype(given),
                                 .max_file_bytes = read_shard_size(given),
                                 .progress = {}};
  session.start();
  StoredModel stored;
  parallel::agree(session.world(), [&] {
    stored = open_stored_model(given.positional().front(), given.values("set"), session.launch());
  });
  session.begin_running();
  options.checkpoint = stored.checkpoint;
  ProgressLine line(session.rank() == 0);
  options.progress = [&line](std::int64_t done, std::int64_t total) { line.show(done, total); };
  const trainer::ExportSummary summary =
      trainer::export_hf(options, stored.config, *stored.tokenizer, session.world());
  if (session.rank() == 0) {
    std::cout << concat("exported ", summary.num_tensors, " tensors, ", summary.size_bytes,
                        " bytes, in ", summary.num_files, " files in ", line.seconds(),
                        " s: ", options.out.string(), '\n')
              << std::flush;
  }
  return kExitDone;
}

}  // namespace

Command export_hf_command() {
  return {.name = "export-hf",
          .summary = "makes a Hugging Face model of a trained one",
          .help = kHelp,
          .uses_ranks = true,
          .run = run};
}

}  // namespace fathom::cli
