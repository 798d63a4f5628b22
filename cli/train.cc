#include "cli/train.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/exit_code.h"
#include "cli/prepare_run.h"
#include "cli/session.h"
#include "cli/standard_output.h"
#include "cli/watchdog.h"
#include "core/error.h"
#include "parallel/comm/agree.h"
#include "parallel/comm/sums.h"
#include "parallel/comm/watchdog.h"
#include "trainer/data_task.h"
#include "trainer/run_plan.h"

namespace fathom::cli {
namespace {

// The step of `resume` among the checkpoints in `root`; -1: none.
std::int64_t choose_step(const Resume& resume, const std::filesystem::path& root,
                         std::span<const std::int64_t> steps) {
  if (resume.kind == Resume::Kind::kAuto) {
    return steps.empty() ? -1 : steps.back();
  }
  if (resume.kind == Resume::Kind::kStep &&
      std::find(steps.begin(), steps.end(), resume.step) == steps.end()) {
    throw ConfigError(concat("--resume ", resume.step, ": no checkpoint of that step in ",
                             root.string(),
                             steps.empty() ? std::string(", which has none")
                                           : concat("; the newest is of step ", steps.back())));
  }
  return resume.kind == Resume::Kind::kStep ? resume.step : -1;
}

// The newest checkpoint is what others take, and pruning leaves those that are ahead of the run.
void tell_newer(const std::filesystem::path& root, std::vector<std::int64_t> steps,
                std::int64_t start) {
  std::erase_if(steps, [&](std::int64_t step) { return step <= start; });
  if (steps.empty()) {
    return;
  }
  const std::string which = steps.size() == 1
                                ? concat("step ", steps.front())
                                : concat("steps ", steps.front(), " to ", steps.back());
  std::cout << concat(root.string(), " holds ", which,
                      " of an earlier run: until this one has passed them, a start with --resume "
                      "auto, and evaluate, generate and init_from on the run folder, take those; "
                      "move them away, or set another run.directory\n")
            << std::flush;
}

// The checkpoint to go on from. Rank 0 looks, so that all ranks decide alike.
std::optional<std::int64_t> choose_checkpoint(const Invocation& invocation,
                                              const config::RunConfig& config) {
  const std::filesystem::path root = config.checkpoint().directory();
  std::int64_t step = -1;
  parallel::agree(invocation.session.world(), [&] {
    if (invocation.session.rank() == 0) {
      const std::vector<std::int64_t> steps = trainer::list_checkpoints(root);
      step = choose_step(invocation.resume, root, steps);
      tell_newer(root, steps, step);
    }
  });
  step = parallel::from_rank_0(step, invocation.session.world());
  return step < 0 ? std::nullopt : std::optional(step);
}

int exit_code_of(trainer::RunEnd end) {
  switch (end) {
    case trainer::RunEnd::kDone:
      return kExitDone;
    case trainer::RunEnd::kStopped:
      return kExitStopped;
    case trainer::RunEnd::kGivenUp:
      break;
  }
  return kExitUnusable;
}

// Training from weights drawn at random is not what the command is for: most likely a path was
// forgotten.
void require_weights(const Invocation& invocation, const config::RunConfig& config) {
  const std::filesystem::path root = config.checkpoint().directory();
  const Resume::Kind resume = invocation.resume.kind;
  if (!config.train().init_from().empty() || resume == Resume::Kind::kStep ||
      (resume == Resume::Kind::kAuto && !trainer::list_checkpoints(root).empty())) {
    return;
  }
  throw ConfigError(concat("train.init_from is not set, and ",
                           resume == Resume::Kind::kNone
                               ? std::string("--resume none takes no checkpoint")
                               : concat(root.string(), " has no checkpoint to resume from"),
                           ": set train.init_from to the checkpoint folder of a trained model "
                           "(RUN/checkpoints/step-NNNNNNNN)"));
}

}  // namespace

OpenedTask open_data_task(const config::RunConfig& config,
                          trainer::RunSources (*open_data)(const config::RunConfig&)) {
  const auto data = std::make_shared<trainer::RunData>(config, open_data(config));
  return {data->tokenizer_hash(), [data](trainer::TrainingLoop& loop) {
            return std::make_unique<trainer::DataTask>(loop, *data);
          }};
}

int train(std::span<const std::string> arguments, Session& session, const Training& training) {
  trainer::StopRequest::block_signals();  // before MPI starts threads that would take them
  const Invocation invocation = parse_invocation(arguments, session);
  session.start();
  const config::RunConfig config = load_config(invocation, training.use);
  const bool speaks = session.rank() == 0;
  if (invocation.dry_run) {
    if (speaks) {
      std::cout << trainer::describe_plan(config);
      flush_standard_output();
    }
    return kExitDone;
  }
  session.use_device(config);
  session.heartbeat().begin_phase("open data");
  OpenedTask opened;
  parallel::agree(session.world(), [&] {
    if (training.needs_weights) {
      require_weights(invocation, config);
    }
    opened = training.open(config);
  });
  const std::unique_ptr<RunFolder> folder = open_run_folder(session, config);
  const std::optional<std::int64_t> resume = choose_checkpoint(invocation, config);

  const std::filesystem::path heartbeats =
      std::filesystem::path(config.run().directory()) / "log" / "heartbeat";
  // Before the loop: it also watches over how the ranks leave each other.
  const parallel::Watchdog watchdog(
      session.heartbeat(),
      watchdog_options(session, config, heartbeats, draw_job_id(session.world())));
  trainer::TrainingLoop loop(config, opened.tokenizer_hash,
                             {session.device_world(), session.device(), session.heartbeat(),
                              [&](const std::string& line) {
                                if (speaks) {
                                  std::cout << line << '\n' << std::flush;
                                  std::cout.clear();  // nobody reads it any more: that ends no run
                                }
                              },
                              session.start_of_program()});
  const std::unique_ptr<trainer::TrainingTask> task = opened.make(loop);
  return exit_code_of(loop.run(resume, *task, [&] { session.begin_running(); }));
}

}  // namespace fathom::cli
