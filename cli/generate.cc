#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/inspect_checkpoint.h"
#include "cli/prompt_file.h"
#include "cli/session.h"
#include "configs/load.h"
#include "configs/resolve.h"
#include "configs/schema/run.pb.h"
#include "configs/validate.h"
#include "core/error.h"
#include "core/file.h"
#include "data/tokenizer.h"
#include "model/factory.h"
#include "parallel/comm/agree.h"
#include "parallel/mesh.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/factory.h"
#include "trainer/generation/generator.h"
#include "trainer/generation/text.h"
#include "trainer/identity.h"
#include "trainer/weights.h"

namespace fathom::cli {
namespace {

constexpr std::string_view kHelp =
    R"(usage: [mpirun -n RANKS] fathom generate PATH --prompt TEXT [OPTION]...
       [mpirun -n RANKS] fathom generate PATH --prompts FILE.jsonl [--output FILE.jsonl] [OPTION]...

Continues texts with a model. PATH is a checkpoint (RUN/checkpoints/step-NNNNNNNN), or a run folder, whose newest is taken.
A single text comes to the terminal as it is made. Otherwise each line of FILE is {"prompt": TEXT}, with an "id" where wanted,
and a line of output is {"id", "prompt", "completion", "tokens", "logprobs", "finish"}.
In EXACT mode the output is the same on every layout, and logprobs are those of the training forward, bit for bit.

  --prompt TEXT         the text to continue
  --prompts FILE        JSON lines with the texts to continue
  --output FILE         where the JSON lines go (default: standard output; with --prompt: no JSON)
  --samples N           completions of each prompt (default 1)
  --max_new_tokens N    tokens of a completion at most (default 64)
  --temperature T       0: always the likeliest token (default 1)
  --top_k K             draws from the K likeliest tokens (default: all)
  --top_p P             draws from the likeliest tokens that together have probability P (default 1)
  --stop STRING         ends a completion, which then comes without it; may be given several times
  --seed N              of the random numbers (default: run.seed)
  --batch N             sequences at a time on each data rank (default 32); changes memory and speed only
  --cache_tokens N      tokens whose keys and values a data rank keeps (default: enough for --batch of the longest); with
                        fewer, sequences wait and may be fed again; changes memory and speed only
  --set PATH=VALUE      sets a field of the run's config: mesh.*, run.threads, data.tokenizer, model.max_position

examples:
  fathom generate runs/quickstart --prompt 'Once upon a time'
  mpirun -n 2 fathom generate runs/quickstart/checkpoints/step-00001000 --prompts prompts.jsonl --set mesh.tensor=2
)";

struct Request {
  std::filesystem::path path;
  std::vector<std::string> overrides;
  std::optional<std::string> prompt;
  std::string prompts_file;
  std::string output;
  std::int64_t num_samples = 1;
  std::optional<std::int64_t> seed;
  trainer::GenerationOptions options;
  trainer::StopStrings stop;

  bool streams() const { return prompt && output.empty() && num_samples == 1; }
};

Request read_request(std::span<const std::string> arguments) {
  constexpr std::int64_t kMany = std::int64_t{1} << 30;
  const ParsedOptions given(arguments, {{"prompt"},
                                        {"prompts"},
                                        {"output"},
                                        {"samples"},
                                        {"max_new_tokens"},
                                        {"temperature"},
                                        {"top_k"},
                                        {"top_p"},
                                        {"stop", OptionSpec::Kind::kValues},
                                        {"seed"},
                                        {"batch"},
                                        {"cache_tokens"},
                                        {"set", OptionSpec::Kind::kValues}});
  if (given.positional().size() != 1) {
    throw ConfigError(
        concat("want one PATH, a checkpoint or a run folder; given ", given.positional().size()));
  }
  if (given.has("prompt") == given.has("prompts")) {
    throw ConfigError("give one of --prompt TEXT and --prompts FILE.jsonl");
  }
  Request request;
  request.path = given.positional().front();
  request.overrides = given.values("set");
  request.prompt = given.value("prompt");
  request.prompts_file = given.value("prompts").value_or("");
  request.output = given.value("output").value_or("");
  request.stop = trainer::StopStrings(given.values("stop"));
  const auto read = [&](const char* name, std::int64_t& value, std::int64_t minimum) {
    if (given.has(name)) {
      value = given.integer(name, minimum, kMany);
    }
  };
  read("samples", request.num_samples, 1);
  read("max_new_tokens", request.options.max_new_tokens, 1);
  read("batch", request.options.max_sequences, 1);
  read("cache_tokens", request.options.cache_tokens, 1);
  kernels::SamplingOptions& sampling = request.options.sampling;
  if (given.has("top_k")) {
    sampling.top_k = static_cast<int>(given.integer("top_k", 1, kMany));
  }
  if (given.has("temperature")) {
    sampling.temperature = static_cast<float>(given.number("temperature", 0.0, 1e6));
  }
  if (given.has("top_p")) {
    sampling.top_p = static_cast<float>(given.number("top_p", 1e-9, 1.0));
  }
  if (given.has("seed")) {
    request.seed = given.integer("seed", 0, std::numeric_limits<std::int64_t>::max());
  }
  return request;
}

std::filesystem::path find_checkpoint(const std::filesystem::path& path) {
  if (is_checkpoint(path)) {
    return path;
  }
  const std::optional<std::filesystem::path> root = checkpoints_of_run(path);
  if (!root) {
    throw ConfigError(concat(path.string(),
                             ": neither a checkpoint (RUN/checkpoints/step-NNNNNNNN) nor a run "
                             "folder that has one"));
  }
  return trainer::checkpoint_folder(*root, *trainer::latest_checkpoint(*root));
}

// The config that the checkpoint was written with, laid out for the ranks there are.
config::RunConfig checkpoint_config(const std::filesystem::path& checkpoint, const Request& request,
                                    const config::Launch& launch) {
  config::RunConfig config =
      config::load_stored(read_manifest(checkpoint).identity.config_text,
                          concat("config of ", checkpoint.string()), request.overrides);
  config::resolve(config, launch);
  // Batches of the training need not fit this layout.
  config::Train& train = *config.mutable_train();
  train.clear_batch_ramp();
  train.set_micro_batch_size(train.micro_batch_size() * config.mesh().tensor());
  train.set_global_batch_size(train.micro_batch_size() * config.mesh().data() *
                              config.mesh().pipeline());
  config::validate(config, launch.world_size);
  if (config.data().tokenizer().empty()) {
    throw ConfigError(concat(checkpoint.string(),
                             ": its config names no tokenizer; add --set data.tokenizer=FILE"));
  }
  return config;
}

// What is known before any weight is read.
struct Preparation {
  std::filesystem::path checkpoint;
  config::RunConfig config;
  std::optional<data::Tokenizer> tokenizer;
  std::vector<PromptText> texts;         // with --samples: each so many times in a row
  std::vector<trainer::Prompt> prompts;  // as texts
};

std::vector<PromptText> texts_of(const Request& request) {
  if (!request.prompt) {
    return read_prompts(request.prompts_file);
  }
  std::vector<PromptText> texts(1);
  texts[0].id = "0";
  texts[0].text = *request.prompt;
  return texts;
}

Preparation prepare(const Request& request, const config::Launch& launch) {
  Preparation made;
  made.checkpoint = find_checkpoint(request.path);
  made.config = checkpoint_config(made.checkpoint, request, launch);
  made.tokenizer = data::Tokenizer::load(made.config.data().tokenizer());
  const std::int64_t max_position = made.config.model().max_position();
  for (const PromptText& text : texts_of(request)) {
    trainer::Prompt prompt =
        trainer::make_prompt(*made.tokenizer, text.id, made.tokenizer->encode(text.text));
    if (std::ssize(prompt.tokens) >= max_position) {
      throw ConfigError(concat("prompt ", text.id, " has ", prompt.tokens.size(),
                               " tokens, and the model ", max_position,
                               " positions (model.max_position): there is no room for more"));
    }
    for (prompt.sample = 0; prompt.sample < request.num_samples; ++prompt.sample) {
      made.texts.push_back(text);
      made.prompts.push_back(prompt);
    }
  }
  return made;
}

// Shows a completion as it grows, a whole character at a time, and nothing that a stop string may
// yet take away.
class TextStream {
 public:
  TextStream(const data::Tokenizer& tokenizer, const trainer::StopStrings& stop)
      : tokenizer_(&tokenizer), stop_(&stop) {}

  void show(const trainer::Completion& completion, bool is_finished) {
    const std::string text = trainer::completion_text(*tokenizer_, completion, *stop_);
    std::string_view ready = text;
    if (!is_finished) {
      ready = whole_characters(ready.substr(0, ready.size() - stop_->num_undecided(ready)));
    }
    std::cout << ready.substr(std::min(shown_, ready.size())) << (is_finished ? "\n" : "")
              << std::flush;
    shown_ = std::max(shown_, ready.size());
  }

 private:
  const data::Tokenizer* tokenizer_;
  const trainer::StopStrings* stop_;
  std::size_t shown_ = 0;  // bytes
};

void write_lines(const Request& request, const Preparation& prepared,
                 const std::vector<trainer::Completion>& completions) {
  std::string lines;
  for (std::size_t i = 0; i < completions.size(); ++i) {
    lines +=
        completion_line(prepared.texts[i], completions[i],
                        trainer::completion_text(*prepared.tokenizer, completions[i], request.stop),
                        prepared.prompts[i].sample, request.num_samples > 1) +
        '\n';
  }
  if (request.output.empty()) {
    std::cout << lines << std::flush;
  } else {
    write_file_atomically(request.output, lines);
  }
}

std::vector<trainer::Completion> complete(const Request& request, const Preparation& prepared,
                                          Session& session) {
  const config::RunConfig& config = prepared.config;
  Stream stream(Device{}, config.run().threads());
  const parallel::Mesh mesh(session.world(), trainer::make_mesh_shape(config.mesh()));
  model::ModelOptions model_options = model::make_model_options(config);
  model_options.numerics.gradients = {};  // there are none
  model::PipelinedModel model(model_options, trainer::make_pipeline_options(config), mesh, stream);
  trainer::load_model(prepared.checkpoint, config,
                      trainer::make_identity(config, prepared.tokenizer->hash()), model, mesh,
                      stream);
  session.begin_running();
  trainer::GenerationOptions options = request.options;
  options.seed = request.seed ? static_cast<std::uint64_t>(*request.seed) : config.run().seed();
  trainer::set_vocabulary(*prepared.tokenizer, options);
  options.is_stop = request.stop.condition(*prepared.tokenizer);
  TextStream text(*prepared.tokenizer, request.stop);
  const bool shows = request.streams() && session.rank() == 0;
  trainer::GenerationEvents events;
  events.step = [&](std::int64_t, const std::vector<trainer::Completion>&) {
    session.heartbeat().count_progress();
  };
  if (shows) {
    events.token = [&](std::size_t, const trainer::Completion& completion, bool is_finished) {
      text.show(completion, is_finished);
    };
  }
  const auto begin = std::chrono::steady_clock::now();
  std::vector<trainer::Completion> completions =
      trainer::Generator(model, mesh, stream).generate(prepared.prompts, options, events);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::size_t num_tokens = 0;
  for (const trainer::Completion& completion : completions) {
    num_tokens += completion.tokens.size();
  }
  if (session.rank() == 0) {
    std::cerr << concat(num_tokens, " tokens in ", seconds.count(), " s, ",
                        static_cast<double>(num_tokens) / seconds.count(), " tokens/s\n");
  }
  return completions;
}

int run(std::span<const std::string> arguments, Session& session) {
  const Request request = read_request(arguments);
  session.start();
  Preparation prepared;
  parallel::agree(session.world(), [&] { prepared = prepare(request, session.launch()); });
  const std::vector<trainer::Completion> completions = complete(request, prepared, session);
  if (session.rank() == 0 && !request.streams()) {
    write_lines(request, prepared, completions);
  }
  return kExitDone;
}

}  // namespace

Command generate_command() {
  return {.name = "generate",
          .summary = "continues texts with a trained model",
          .help = kHelp,
          .uses_ranks = true,
          .run = run};
}

}  // namespace fathom::cli
