#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/generation_request.h"
#include "cli/prompt_file.h"
#include "cli/session.h"
#include "cli/standard_output.h"
#include "cli/stored_model.h"
#include "cli/text_stream.h"
#include "core/error.h"
#include "core/file.h"
#include "data/tokenizer.h"
#include "parallel/comm/agree.h"
#include "trainer/generation/generator.h"
#include "trainer/generation/text.h"

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
  --chat                puts the run's chat template (data.chat) around each prompt; completions end as its answers do
  --stop STRING         ends a completion, which then comes without it; may be given several times
  --seed N              of the random numbers (default: run.seed)
  --batch N             sequences at a time on each data rank (default 32); changes memory and speed only
  --cache FORM          what is kept of a token: expanded (keys and values; the default in EXACT, which needs it) or latent
                        (their latents: far less memory, equal within rounding; the default in FAST)
  --cache_tokens N      tokens that a data rank keeps (default: enough for --batch of the longest); with
                        fewer, sequences wait and may be fed again; changes memory and speed only
  --set PATH=VALUE      sets a field of the run's config that its weights do not depend on: mesh.*, run.device, run.transport,
                        run.threads, numerics.mode, data.tokenizer, data.chat, data.document_start, model.max_position

examples:
  fathom generate runs/quickstart --prompt 'Once upon a time'
  mpirun -n 2 fathom generate runs/quickstart/checkpoints/step-00000900 --prompts prompts.jsonl --set mesh.tensor=2
)";

struct Request {
  std::filesystem::path path;
  std::vector<std::string> overrides;
  std::optional<std::string> prompt;
  std::string prompts_file;
  std::string output;
  GenerationRequest generation;

  bool streams() const { return prompt && output.empty() && generation.num_samples == 1; }
};

Request read_request(std::span<const std::string> arguments) {
  std::vector<OptionSpec> specs = generation_option_specs();
  specs.insert(specs.end(),
               {{"prompt"}, {"prompts"}, {"output"}, {"set", OptionSpec::Kind::kValues}});
  const ParsedOptions given(arguments, specs);
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
  request.generation = read_generation_request(given);
  return request;
}

// What is known before any weight is read.
struct Preparation {
  StoredModel stored;
  std::vector<PromptText> texts;         // with --samples: each so many times in a row
  std::vector<trainer::Prompt> prompts;  // as texts
  trainer::CompletionEnd end;
  trainer::GenerationOptions options;
};

std::vector<PromptText> texts_of(const Request& request) {
  if (!request.prompt) {
    return read_prompts(request.prompts_file);
  }
  return {PromptText{"0", *request.prompt}};
}

Preparation prepare(const Request& request, const config::Launch& launch) {
  Preparation made;
  require_folder("--output", request.output);
  made.stored = open_stored_model(request.path, request.overrides, launch);
  made.end = request.generation.end_for(made.stored);
  made.options = request.generation.options_for(made.stored, made.end);
  const EncodeText encode = make_prompt_encoder(made.stored, request.generation.is_chat);
  for (const PromptText& text : texts_of(request)) {
    trainer::Prompt prompt =
        trainer::make_prompt(*made.stored.tokenizer, text.id, encode(text.text));
    require_room(concat("prompt ", text.id), std::ssize(prompt.tokens), made.stored.config);
    for (prompt.sample = 0; prompt.sample < request.generation.num_samples; ++prompt.sample) {
      made.texts.push_back(text);
      made.prompts.push_back(prompt);
    }
  }
  return made;
}

void write_lines(const Request& request, const Preparation& prepared,
                 const std::vector<trainer::Completion>& completions) {
  std::string lines;
  for (std::size_t i = 0; i < completions.size(); ++i) {
    const trainer::CompletionText text =
        trainer::completion_text(*prepared.stored.tokenizer, completions[i], prepared.end);
    lines += completion_line(prepared.texts[i], completions[i], text.shown,
                             prepared.prompts[i].sample, request.generation.num_samples > 1);
    lines += '\n';
  }
  if (request.output.empty()) {
    std::cout << lines;
    flush_standard_output();
  } else {
    write_file_atomically(request.output, lines);
  }
}

std::vector<trainer::Completion> complete(const Request& request, const Preparation& prepared,
                                          Session& session) {
  LoadedModel loaded(prepared.stored, session);
  session.heartbeat().begin_phase("generate");
  TextStream text(*prepared.stored.tokenizer, prepared.end);
  const bool shows = request.streams() && session.rank() == 0;
  trainer::GenerationEvents events;
  events.step = [&](std::int64_t, const std::vector<trainer::Completion>&) {
    session.heartbeat().count_progress();
  };
  if (shows) {
    events.token = [&](std::size_t, const trainer::Completion& completion, bool is_finished) {
      std::cout << text.next(completion, is_finished) << (is_finished ? "\n" : "");
      flush_standard_output();
    };
  }
  const auto begin = std::chrono::steady_clock::now();
  std::vector<trainer::Completion> completions =
      trainer::Generator(loaded.model(), loaded.mesh(), loaded.stream())
          .generate(prepared.prompts, prepared.options, events);
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
