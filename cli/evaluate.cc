#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli/choice_evaluation.h"
#include "cli/commands.h"
#include "cli/evaluation_report.h"
#include "cli/evaluation_request.h"
#include "cli/exit_code.h"
#include "cli/prompt_file.h"
#include "cli/rejection_sampling.h"
#include "cli/session.h"
#include "cli/standard_output.h"
#include "cli/stored_model.h"
#include "cli/text_evaluation.h"
#include "core/error.h"
#include "core/file.h"
#include "data/prompt_template.h"
#include "parallel/comm/agree.h"
#include "rl/factory.h"
#include "rl/problem_evaluation.h"
#include "trainer/generation/generator.h"
#include "trainer/token_data.h"

namespace fathom::cli {
namespace {

constexpr std::string_view kHelp =
    R"(usage: [mpirun -n RANKS] fathom evaluate PATH [--text FILE]... [--problems FILE | --family NAME --count N] [--choices FILE]
         [OPTION]...

Measures a model. PATH is a checkpoint (RUN/checkpoints/step-NNNNNNNN), or a run folder, whose newest is taken. In EXACT mode the
numbers are the same on every layout.

Loss and bits per byte of text, as pretraining evaluates data.validation:
  --text FILE           plain text, JSON lines (.jsonl) with a field "text", or token shards (a shard, a folder, a prefix)
  --sequences N         of its first N sequences (default: all of it)

Problems with answers that are checked: solve rate (pass@1), pass@k and maj@k:
  --problems FILE       JSON lines {"id", "prompt", "answer", "verifier"}, as fathom problems writes them
  --family NAME         or a built-in family with --count N, --difficulty D, --split train|held_out, --problem_seed S
  --samples N           completions of each problem (default 1)
  --k K,K,...           of pass@k and maj@k, up to --samples (default 1)
  --extract RULE        where the answer is: tagged (<answer>...</answer> or \boxed{...}), whole (all of the completion), or lenient
                        (default): tagged, else after "Answer:" or "####", else the last number
  --max_new_tokens N    tokens of a completion at most (default 64)
  --temperature T       0: always the likeliest token (default 1)
  --top_k K             draws from the K likeliest tokens (default: all)
  --top_p P             draws from the likeliest tokens that together have probability P (default 1)
  --stop STRING         ends a completion; the verdict sees it, as it may be a tag that closes the answer, unless --extract is
                        whole; files have it apart, as "stop"; may be given several times
  --seed N              of the random numbers (default: run.seed)
  --batch N             sequences at a time on each data rank (default 32); changes memory and speed only
  --cache FORM          what is kept of a token: expanded (keys and values; the default in EXACT, which needs it) or latent
                        (their latents: far less memory, equal within rounding; the default in FAST)
  --cache_tokens N      tokens that a data rank keeps (default: enough for --batch of the longest); with
                        fewer, sequences wait and may be fed again; changes memory and speed only

Multiple choice, by the likelihood of each choice after the prompt: accuracy, and accuracy by likelihood per UTF-8 byte:
  --choices FILE        JSON lines {"prompt", "choices": [...], "answer": INDEX from 0}, with an "id" where wanted

For problems and choices:
  --template TEXT       what is put before the model, with {prompt} in it (default {prompt}); its own added tokens become tokens
  --chat                puts the run's chat template (data.chat) around that, as a user's message, which is text
  --output FILE         JSON lines: every completion with verdict and rule, every question with its log-likelihoods
  --accepted FILE       the correct completions, as they were judged, as JSON lines {"prompt", "completion"}, which sft reads:
                        rejection sampling
  --accepted_per_problem N   different ones of each problem at most (default 1)

  --json FILE           the results as one JSON object
  --set PATH=VALUE      sets a field of the run's config that its weights do not depend on: mesh.*, run.device, run.transport,
                        run.threads, numerics.mode, data.tokenizer, data.chat, data.document_start, model.max_position;
                        for --text also train.sequence_length

examples:
  fathom evaluate runs/quickstart --text runs/quickstart/data/held-out.txt
  mpirun -n 4 fathom evaluate runs/quickstart/grpo --family sorting --difficulty 7 --count 512 --split held_out --samples 16 \
    --k 1,4,16 --template '{prompt}<think>' --max_new_tokens 80
)";

// What is known before any weight is read.
struct Preparation {
  StoredModel stored;
  std::vector<HeldOutText> texts;
  rl::EncodeProblem encode_problem;
  std::vector<rl::Problem> problems;
  std::vector<Question> questions;
  std::vector<trainer::ScoredText> choices;  // of all questions
  trainer::CompletionEnd end;
  trainer::GenerationOptions generation;
};

void prepare_problems(const EvaluationRequest& request, Preparation& made) {
  made.encode_problem =
      rl::make_problem_encoder(made.stored.config, *made.stored.tokenizer, request.prompt_template,
                               request.generation.is_chat);
  made.problems = request.family ? generate_problems(*request.family)
                                 : rl::read_problems(request.problems_file);
  for (const rl::Problem& problem : made.problems) {
    const auto num_tokens = std::ssize(made.encode_problem(problem));
    require_room(concat("problem ", problem.id), num_tokens, made.stored.config);
  }
}

void prepare_choices(const EvaluationRequest& request, Preparation& made) {
  const data::Tokenizer& tokenizer = *made.stored.tokenizer;
  const data::PromptTemplate prompt(tokenizer, request.prompt_template,
                                    trainer::make_document_start(made.stored.config));
  const EncodeText encode = make_prompt_encoder(made.stored, request.generation.is_chat);
  made.questions = read_questions(request.choices_file);
  for (const Question& question : made.questions) {
    for (const std::string& choice : question.choices) {
      made.choices.push_back(
          request.generation.is_chat
              ? encode_answer(encode(request.render(question.prompt)), choice, tokenizer)
              : encode_continuation(prompt.render(question.prompt), choice, tokenizer));
      // The last token is a target only.
      require_room(concat("question ", question.id, " with a choice"),
                   std::ssize(made.choices.back().tokens) - 1, made.stored.config);
    }
  }
}

Preparation prepare(const EvaluationRequest& request, const config::Launch& launch) {
  Preparation made;
  require_folder("--output", request.output);
  require_folder("--accepted", request.accepted);
  require_folder("--json", request.json);
  made.stored = open_stored_model(request.path, request.overrides, launch);
  made.end = request.generation.end_for(made.stored);
  made.generation = request.generation.options_for(made.stored, made.end);
  for (const std::string& path : request.texts) {
    made.texts.push_back(open_text(path, made.stored));
  }
  if (request.has_problems()) {
    prepare_problems(request, made);
  }
  if (!request.choices_file.empty()) {
    prepare_choices(request, made);
  }
  return made;
}

rl::ProblemEvaluation evaluate_on_problems(const EvaluationRequest& request,
                                           const Preparation& prepared, LoadedModel& loaded,
                                           Session& session) {
  session.heartbeat().begin_phase("evaluate problems");
  trainer::Generator generator(loaded.model(), loaded.mesh(), loaded.stream());
  rl::ProblemEvaluationOptions options;
  options.sampling = {.num_samples = request.generation.num_samples,
                      .generation = prepared.generation,
                      .progress = [&] { session.heartbeat().count_progress(); }};
  options.ks = request.ks;
  options.end = prepared.end;
  options.extraction.mode = request.extraction;
  return rl::evaluate_problems(generator, *prepared.stored.tokenizer, prepared.problems,
                               prepared.encode_problem, options);
}

std::string source_of_problems(const EvaluationRequest& request) {
  if (!request.family) {
    return request.problems_file;
  }
  const rl::ProblemSet& set = request.family->set;
  return concat(set.family, ", difficulty ", set.difficulty,
                set.split == rl::Split::kTrain ? ", train" : ", held out");
}

// Lines for the files that were asked for.
struct Lines {
  std::string output;
  std::string accepted;
};

void write_results(const EvaluationRequest& request, const EvaluationReport& report,
                   const Lines& lines) {
  std::cout << to_table(report);
  flush_standard_output();
  if (!request.output.empty()) {
    write_file_atomically(request.output, lines.output);
  }
  if (!request.accepted.empty()) {
    write_file_atomically(request.accepted, lines.accepted);
  }
  if (!request.json.empty()) {
    write_file_atomically(request.json, to_json(report).dump(2) + '\n');
  }
}

int run(std::span<const std::string> arguments, Session& session) {
  const EvaluationRequest request = read_evaluation_request(arguments);
  session.start();
  Preparation prepared;
  parallel::agree(session.world(), [&] { prepared = prepare(request, session.launch()); });
  LoadedModel loaded(prepared.stored, session);
  EvaluationReport report;
  report.checkpoint = prepared.stored.checkpoint;
  Lines lines;
  report.texts = score_texts(std::move(prepared.texts), request.num_sequences, prepared.stored,
                             loaded, session);
  if (!prepared.problems.empty()) {
    const rl::ProblemEvaluation found = evaluate_on_problems(request, prepared, loaded, session);
    report.problem_source = source_of_problems(request);
    report.problems = found.scores;
    for (const rl::EvaluatedSample& sample : found.samples) {
      const rl::Problem& problem = prepared.problems[sample.problem];
      lines.output += sample_line(problem, request.render(problem.prompt), sample);
      lines.output += '\n';
    }
    lines.accepted =
        accepted_lines(prepared.problems, found.samples, {request.asked_template(), request.lead()},
                       request.accepted_per_problem);
  }
  if (!prepared.questions.empty()) {
    report.choice_source = request.choices_file;
    report.choices =
        score_choices(prepared.questions, prepared.choices, prepared.stored, loaded, session);
    for (std::size_t i = 0; i < prepared.questions.size(); ++i) {
      lines.output += question_line(prepared.questions[i], report.choices->questions[i]);
      lines.output += '\n';
    }
  }
  parallel::agree(session.world(), [&] {
    if (session.rank() == 0) {
      write_results(request, report, lines);
    }
  });
  return kExitDone;
}

}  // namespace

Command evaluate_command() {
  return {.name = "evaluate",
          .summary = "measures a model on text, problems and multiple choice",
          .help = kHelp,
          .uses_ranks = true,
          .run = run};
}

}  // namespace fathom::cli
