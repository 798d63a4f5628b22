#include "trainer/training_loop.h"

#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "core/file.h"
#include "model/factory.h"
#include "model/flops.h"
#include "optim/factory.h"
#include "parallel/comm/agree.h"
#include "parallel/comm/sums.h"
#include "parallel/host_state.h"
#include "trainer/bit_choices.h"
#include "trainer/factory.h"
#include "trainer/identity.h"
#include "trainer/state_hash.h"
#include "trainer/token_schedules.h"
#include "trainer/weights.h"

namespace fathom::trainer {
namespace {

std::string join(std::span<const std::string> items) {
  std::string list;
  for (const std::string& item : items) {
    list += (list.empty() ? "" : ", ") + item;
  }
  return list;
}

}  // namespace

TrainingLoop::TrainingLoop(const config::RunConfig& config, const std::string& tokenizer_hash,
                           const TrainingEnvironment& environment)
    : config_(std::make_unique<config::RunConfig>(config)),
      environment_(environment),
      stream_(environment.device, config.run().threads(),
              model::make_numerics_options(config).sum_order()),
      mesh_(environment.world, make_mesh_shape(config.mesh())),
      model_(model::make_model_options(config), make_pipeline_options(config), mesh_, stream_),
      optimizer_(optim::make_optimizer(config.optimizer(), model_.parameters(), stream_)),
      train_step_(model_, *optimizer_, mesh_, stream_),
      evaluate_step_(model_, mesh_, stream_),
      learning_rate_(optim::make_learning_rate_schedule(config)),
      identity_(make_identity(config, tokenizer_hash)),
      stop_request_(std::chrono::duration<double>(config.train().time_limit()), environment.begin) {
  checkpoint_options_.root = config.checkpoint().directory();
  checkpoint_options_.keep_last = config.checkpoint().keep_last();
  checkpoint_options_.warn = [this](const std::string& text) { environment_.print(text); };
  checkpoint_options_.check_identity = [this](const CheckpointIdentity& stored) {
    if (const std::optional<config::RunConfig> theirs = stored_config(stored)) {
      task_->check_resume(*theirs);
    }
  };
  checkpoint_options_.begin_phase = [this](const char* phase) { begin_phase(phase); };
  checkpoint_options_.progress = [this](std::int64_t, std::int64_t) {
    environment_.heartbeat.count_progress();
  };
}

TrainingLoop::~TrainingLoop() = default;

void TrainingLoop::visit_state(parallel::StateVisitor& visitor) {
  progress_.visit_state(visitor);
  optimizer_->visit_state(visitor);
  model_.visit_state(visitor);
  task_->visit_state(visitor);
}

void TrainingLoop::visit_host_state(parallel::StateVisitor& visitor) {
  parallel::HostState host(visitor, stream_);
  visit_state(host);
}

void TrainingLoop::start(ResumeStep resume) {
  if (resume) {
    begin_phase("load checkpoint");
    const CheckpointIdentity stored = load_checkpoint(
        checkpoint_options_, *resume,
        [this](parallel::StateVisitor& visitor) { visit_host_state(visitor); }, identity_,
        environment_.world);
    if (environment_.world.rank() == 0) {
      environment_.print(concat("goes on from step ", *resume));
      tell_unused_weights(stored);
      tell_changes(stored);
    }
    find_next_sample(stored);
    optimizer_->weights_loaded(stream_);
    last_saved_step_ = progress_.step;
  } else if (!config_->train().init_from().empty()) {
    begin_phase("load weights");
    const CheckpointIdentity stored = load_weights(
        config_->train().init_from(),
        [this](parallel::StateVisitor& visitor) { visit_host_state(visitor); }, identity_,
        environment_.world);
    if (environment_.world.rank() == 0) {
      tell_other_positions(stored);
    }
    optimizer_->weights_loaded(stream_);
  } else {
    begin_phase("initialize weights");
    model_.initialize(config_->run().seed());
    optimizer_->values_drawn(stream_);
  }
  if (environment_.world.rank() == 0) {
    tell_rare_checkpoints();
    reporter_ = std::make_unique<Reporter>(config_->run().directory(), resume, environment_.print);
  }
  if (const config::Trace& trace = config_->train().trace(); trace.enabled()) {
    trace_ = std::make_unique<StepTrace>(
        TraceOptions{config_->run().directory(), trace.elements_step(), trace.elements_of()},
        resume, model_, *optimizer_, environment_.world, stream_);
  }
}

void TrainingLoop::tell_unused_weights(const CheckpointIdentity& stored) const {
  const std::optional<config::RunConfig> theirs = stored_config(stored);
  const std::string& asked_for = config_->train().init_from();
  if (!theirs || asked_for.empty() || asked_for == theirs->train().init_from()) {
    return;
  }
  environment_.print(concat("train.init_from (", asked_for,
                            ") is not looked at: the run goes on from its own checkpoint; --resume "
                            "none starts anew"));
}

void TrainingLoop::tell_rare_checkpoints() const {
  const config::Checkpoint& checkpoint = config_->checkpoint();
  if (checkpoint.interval() == 0 && config_->train().time_limit() == 0) {
    environment_.print(concat("checkpoint.interval is 0: a checkpoint only ",
                              checkpoint.save_at_end() ? "at the end, or " : "",
                              "when the run is stopped"));
  }
}

void TrainingLoop::tell_other_positions(const CheckpointIdentity& stored) const {
  const std::vector<std::string> changes = changed_yarn(stored, identity_);
  if (!changes.empty()) {
    environment_.print(
        concat("the weights of ", config_->train().init_from(),
               " were trained with other rotary frequencies than this run has: ", join(changes)));
  }
}

void TrainingLoop::tell_changes(const CheckpointIdentity& stored) const {
  const std::vector<std::string> changes = changed_bit_choices(stored, identity_);
  if (changes.empty()) {
    return;
  }
  constexpr std::size_t kMax = 8;
  std::string list = join(std::span(changes).first(std::min(kMax, changes.size())));
  if (changes.size() > kMax) {
    list += concat(" and ", changes.size() - kMax, " more");
  }
  environment_.print("goes on with other bits than the run that wrote the checkpoint: " + list);
}

void TrainingLoop::find_next_sample(const CheckpointIdentity& stored) {
  const std::optional<config::RunConfig> before = stored_config(stored);
  if (!before) {
    return;  // told among the changes
  }
  const std::int64_t next = task_->next_sample(progress_.samples, *before);
  if (next != progress_.samples && environment_.world.rank() == 0) {
    environment_.print(concat("the data goes on at sample ", next, " of the new length, where ",
                              progress_.samples, " of the old one end"));
  }
  progress_.samples = next;
}

RunEnd TrainingLoop::run(ResumeStep resume, TrainingTask& task,
                         const std::function<void()>& running) {
  task_ = &task;
  identity_.data_contents = task.data_contents();
  start(resume);
  running();
  task_->begin();
  return take_steps();
}

// Before the first step, and where a stop on request came before the evaluation of its step.
bool TrainingLoop::owes_evaluation() {
  const bool is_last = progress_.step >= config_->train().steps();  // the end evaluates
  if (!is_due(config_->evaluation().interval()) || (is_last && progress_.step > 0)) {
    return false;
  }
  const std::int64_t mine = reporter_ && reporter_->was_evaluated() ? 1 : 0;  // never at step 0
  return parallel::from_rank_0(mine, environment_.world) == 0;
}

RunEnd TrainingLoop::take_steps() {
  if (owes_evaluation()) {
    task_->evaluate();
  }
  while (progress_.step < config_->train().steps()) {
    environment_.heartbeat.begin_step(progress_.step + 1);
    task_->take_step();
    if (progress_.skipped_in_a_row > config_->train().max_skipped_steps()) {
      return end_run(RunEnd::kGivenUp,
                     concat(progress_.skipped_in_a_row, " steps in a row were not finite"));
    }
    if (agreement_.stops) {
      save();
      return end_run(RunEnd::kStopped, "stopped on request");
    }
    // Before the checkpoint: a kill in between costs no evaluation.
    if (is_due(config_->evaluation().interval()) && progress_.step < config_->train().steps()) {
      task_->evaluate();
    }
    if (is_due(config_->checkpoint().interval())) {
      save();
    }
  }
  if (config_->checkpoint().save_at_end()) {
    save();
  }
  task_->evaluate();
  return end_run(RunEnd::kDone, "done");
}

std::uint64_t TrainingLoop::state_hash() {
  StateHash hash(stream_);
  visit_state(hash);
  return hash.total(environment_.world);
}

RunEnd TrainingLoop::end_run(RunEnd end, const std::string& reason) {
  begin_phase("hash state");
  const std::uint64_t hash = state_hash();
  begin_phase("end");
  if (reporter_) {
    reporter_->end(progress_, reason, hash);
  }
  return end;
}

StepOptions TrainingLoop::step_options(std::int64_t step_tokens) const {
  StepOptions options;
  options.learning_rate = learning_rate_.at({progress_.step, progress_.tokens}, step_tokens);
  options.clip_norm = config_->optimizer().clip_norm();
  options.selection_bias_rate = selection_bias_rate(*config_, progress_.tokens);
  options.gradient_dtype = optim::make_dtype(config_->optimizer().gradient_dtype());
  options.recompute = make_recompute_options(config_->train().recompute());
  if (trace_) {
    options.gradients_reduced = [this] { trace_->gradients(progress_.step + 1); };
  }
  return options;
}

void TrainingLoop::finish_step(const FinishedStep& step) {
  const StepResult& result = step.result;
  const std::int64_t first_sample = progress_.samples;
  progress_.step += 1;
  progress_.tokens += step.num_tokens;
  progress_.samples += step.num_samples;
  progress_.skipped_steps += result.is_finite ? 0 : 1;
  progress_.skipped_in_a_row = result.is_finite ? 0 : progress_.skipped_in_a_row + 1;
  if (trace_) {
    begin_phase("trace");
    trace_->values(progress_.step);
  }
  agreement_ = agree();
  if (reporter_) {
    reporter_->step({result, progress_, step.num_tokens, config_->train().steps(),
                     step.learning_rate, step.seconds, agreement_.peak_bytes, step.more, step.shown,
                     model_flops_utilization(step)});
    if (!result.is_finite) {
      write_skipped_batch(first_sample, step.num_samples);
    }
  }
}

// Against the bfloat16 peak of all devices, whatever the run's dtype.
double TrainingLoop::model_flops_utilization(const FinishedStep& step) const {
  const Device device = environment_.device;
  const double peak =
      device.type == DeviceType::kCpu ? 0.0 : device_backend(device.type).peak_flops(device.index);
  if (peak <= 0.0 || step.seconds <= 0.0) {
    return 0.0;
  }
  const double flops =
      model::flops_per_token(model_.options(), config_->train().sequence_length()) *
      static_cast<double>(step.num_tokens);
  return flops / step.seconds / (peak * environment_.world.world_size());
}

TrainingLoop::Agreement TrainingLoop::agree() {
  const auto ranks = static_cast<std::size_t>(environment_.world.world_size());
  const std::array<std::int64_t, 2> mine = {
      stop_request_.check() == StopRequest::Reason::kNone ? 0 : 1,
      stream_.allocator()->peak_bytes()};
  std::vector<std::int64_t> all(mine.size() * ranks);
  environment_.world.all_gather_integers(mine, all);
  Agreement agreement;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    agreement.stops = agreement.stops || all[2 * rank] != 0;
    agreement.peak_bytes = std::max(agreement.peak_bytes, all[2 * rank + 1]);
  }
  return agreement;
}

void TrainingLoop::save() {
  if (last_saved_step_ == progress_.step) {
    return;
  }
  begin_phase("write checkpoint");
  const Stopwatch watch;
  try {
    save_checkpoint(
        checkpoint_options_, progress_.step,
        [this](parallel::StateVisitor& visitor) { visit_host_state(visitor); }, identity_,
        environment_.world);
  } catch (const IoError& error) {  // the same on every rank
    throw parallel::Shared<IoError>(explain_failed_save(error.message()));
  }
  last_saved_step_ = progress_.step;
  task_->saved();
  if (reporter_) {
    reporter_->checkpoint(progress_.step,
                          checkpoint_folder(checkpoint_options_.root, progress_.step),
                          watch.seconds());
  }
}

std::string TrainingLoop::explain_failed_save(const std::string& cause) const {
  return concat(
      "the checkpoint of step ", progress_.step, " could not be written: ", cause,
      ". Make room, or mend what else is the matter, and start the same command again: it ",
      last_saved_step_ < 0
          ? std::string("starts from the beginning")
          : concat("goes on from the checkpoint of step ", last_saved_step_, ", which is whole"));
}

void TrainingLoop::write_skipped_batch(std::int64_t first_sample, std::int64_t num_samples) const {
  const std::filesystem::path path = std::filesystem::path(config_->run().directory()) / "log" /
                                     concat("not-finite-step-", progress_.step, ".json");
  reporter_->try_to_write("names of skipped samples", [&] {
    write_file_atomically(path, concat("{\"step\": ", progress_.step, ", \"first_sample\": ",
                                       first_sample, ", \"num_samples\": ", num_samples, "}\n"));
    reporter_->note(concat("its samples are named in ", path.string()));
  });
}

}  // namespace fathom::trainer
