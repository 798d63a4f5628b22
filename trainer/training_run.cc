#include "trainer/training_run.h"

#include <chrono>

#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "core/file.h"
#include "model/factory.h"
#include "optim/factory.h"
#include "parallel/comm/agree.h"
#include "trainer/bit_choices.h"
#include "trainer/factory.h"
#include "trainer/generation/generator.h"
#include "trainer/generation/text.h"
#include "trainer/identity.h"
#include "trainer/state_hash.h"
#include "trainer/weights.h"

namespace fathom::trainer {
namespace {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

TrainingRun::TrainingRun(const config::RunConfig& config, RunData data,
                         const TrainingEnvironment& environment)
    : config_(std::make_unique<config::RunConfig>(config)),
      environment_(environment),
      data_(std::move(data)),
      stream_(Device{}, config.run().threads()),
      mesh_(environment.world, make_mesh_shape(config.mesh())),
      model_(model::make_model_options(config), make_pipeline_options(config), mesh_, stream_),
      optimizer_(optim::make_optimizer(config.optimizer(), model_.parameters(), stream_)),
      train_step_(model_, *optimizer_, mesh_, stream_),
      learning_rate_(optim::make_learning_rate_schedule(config)),
      batch_ramp_(optim::make_batch_ramp(config)),
      identity_(make_identity(config, data_.tokenizer_hash())),
      stop_request_(std::chrono::duration<double>(config.train().time_limit())) {
  data_.begin(mesh_.coordinates().data, mesh_.shape().data);
  checkpoint_options_.root = config.checkpoint().directory();
  checkpoint_options_.keep_last = config.checkpoint().keep_last();
  checkpoint_options_.warn = [this](const std::string& text) { environment_.print(text); };
  checkpoint_options_.begin_phase = [this](const char* phase) {
    environment_.heartbeat.begin_phase(phase);
  };
  checkpoint_options_.progress = [this](std::int64_t, std::int64_t) {
    environment_.heartbeat.count_progress();
  };
}

TrainingRun::~TrainingRun() = default;

void TrainingRun::visit_state(parallel::StateVisitor& visitor) {
  progress_.visit_state(visitor);
  optimizer_->visit_state(visitor);
  model_.visit_state(visitor);
}

void TrainingRun::start(ResumeStep resume) {
  if (resume) {
    environment_.heartbeat.begin_phase("load checkpoint");
    const CheckpointIdentity stored = load_checkpoint(
        checkpoint_options_, *resume,
        [this](parallel::StateVisitor& visitor) { visit_state(visitor); }, identity_,
        environment_.world);
    tell_changes(stored);
    optimizer_->weights_loaded(stream_);
    last_saved_step_ = progress_.step;
  } else if (!config_->train().init_from().empty()) {
    environment_.heartbeat.begin_phase("load weights");
    load_weights(
        config_->train().init_from(),
        [this](parallel::StateVisitor& visitor) { visit_state(visitor); }, identity_,
        environment_.world);
    optimizer_->weights_loaded(stream_);
  } else {
    environment_.heartbeat.begin_phase("initialize weights");
    model_.initialize(config_->run().seed());
    optimizer_->values_drawn(stream_);
  }
  if (environment_.world.rank() == 0) {
    reporter_ = std::make_unique<Reporter>(config_->run().directory(), resume, environment_.print);
    for (const std::string& line : data_.notes()) {
      reporter_->note(line);
    }
  }
  if (const config::Trace& trace = config_->train().trace(); trace.enabled()) {
    trace_ = std::make_unique<StepTrace>(
        TraceOptions{config_->run().directory(), trace.elements_step(), trace.elements_of()},
        resume, model_, *optimizer_, environment_.world);
  }
}

void TrainingRun::tell_changes(const CheckpointIdentity& stored) const {
  const std::vector<std::string> changes = changed_bit_choices(stored, identity_);
  if (changes.empty() || environment_.world.rank() != 0) {
    return;
  }
  constexpr std::size_t kMax = 8;
  std::string list;
  for (std::size_t i = 0; i < std::min(kMax, changes.size()); ++i) {
    list += (i == 0 ? "" : ", ") + changes[i];
  }
  if (changes.size() > kMax) {
    list += concat(" and ", changes.size() - kMax, " more");
  }
  environment_.print("goes on with other bits than the run that wrote the checkpoint: " + list);
}

RunEnd TrainingRun::run() {
  if (progress_.step == 0 && config_->evaluation().interval() > 0) {
    evaluate();
  }
  while (progress_.step < config_->train().steps()) {
    take_step();
    if (progress_.skipped_in_a_row > config_->train().max_skipped_steps()) {
      return end_run(RunEnd::kGivenUp,
                     concat(progress_.skipped_in_a_row, " steps in a row were not finite"));
    }
    if (agreement_.stops) {
      save();
      return end_run(RunEnd::kStopped, "stopped on request");
    }
    // Before the checkpoint, so that a resume from it has nothing to make up for.
    if (is_due(config_->evaluation().interval()) && progress_.step < config_->train().steps()) {
      evaluate();
    }
    if (is_due(config_->checkpoint().interval())) {
      save();
    }
  }
  if (config_->checkpoint().save_at_end()) {
    save();
  }
  evaluate();
  return end_run(RunEnd::kDone, "done");
}

RunEnd TrainingRun::end_run(RunEnd end, const std::string& reason) {
  environment_.heartbeat.begin_phase("hash state");
  StateHash hash;
  visit_state(hash);
  const std::uint64_t state_hash = hash.total(environment_.world);
  environment_.heartbeat.begin_phase("end");
  if (reporter_) {
    reporter_->end(progress_, reason, state_hash);
  }
  return end;
}

double TrainingRun::mtp_loss_weight() const {
  const config::Train& train = config_->train();
  const std::int64_t later = train.mtp_loss_weight_later_tokens();
  return later > 0 && progress_.tokens >= later ? train.mtp_loss_weight_later()
                                                : train.mtp_loss_weight();
}

StepOptions TrainingRun::step_options(std::int64_t step_tokens) const {
  const config::Train& train = config_->train();
  const std::int64_t freeze = train.selection_bias_freeze_tokens();
  StepOptions options;
  options.learning_rate = learning_rate_.at({progress_.step, progress_.tokens}, step_tokens);
  options.clip_norm = config_->optimizer().clip_norm();
  options.selection_bias_rate = freeze > 0 && progress_.tokens >= freeze
                                    ? 0.0
                                    : config_->model().moe().selection_bias_update_rate();
  options.gradient_dtype = optim::make_dtype(config_->optimizer().gradient_dtype());
  options.recompute = make_recompute_options(train.recompute());
  if (trace_) {
    options.gradients_reduced = [this] { trace_->gradients(progress_.step + 1); };
  }
  return options;
}

void TrainingRun::take_step() {
  environment_.heartbeat.begin_step(progress_.step + 1);
  environment_.heartbeat.begin_phase("read data");
  const Stopwatch watch;
  const std::int64_t num_sequences = optim::global_batch_size(batch_ramp_, progress_.tokens);
  const std::int64_t step_tokens = num_sequences * config_->train().sequence_length();
  const std::int64_t first_sample = progress_.samples;
  const std::int64_t next_size =
      optim::global_batch_size(batch_ramp_, progress_.tokens + step_tokens);
  const std::vector<data::MicroBatch>* host = nullptr;
  parallel::agree(environment_.world,
                  [&] { host = &data_.read({first_sample, num_sequences}, next_size); });
  StepResult result;
  const StepOptions options = step_options(step_tokens);
  double data_seconds = 0.0;
  {
    const DeviceBatch batch =
        make_device_batch(*host, {first_sample, num_sequences, mtp_loss_weight()}, mesh_, stream_);
    data_seconds = watch.seconds();
    result = train_step_.run(batch.micro_batches, batch.counts, options, [this](const char* phase) {
      environment_.heartbeat.begin_phase(phase);
    });
  }
  result.phase_ms["data"] = data_seconds * 1e3;
  progress_.step += 1;
  progress_.tokens += step_tokens;
  progress_.samples += num_sequences;
  progress_.skipped_steps += result.is_finite ? 0 : 1;
  progress_.skipped_in_a_row = result.is_finite ? 0 : progress_.skipped_in_a_row + 1;
  if (trace_) {
    environment_.heartbeat.begin_phase("trace");
    trace_->values(progress_.step);
  }
  agreement_ = agree();
  if (reporter_) {
    reporter_->step({result, progress_, step_tokens, config_->train().steps(),
                     options.learning_rate, watch.seconds(), agreement_.peak_bytes});
    if (!result.is_finite) {
      write_skipped_batch(first_sample, num_sequences);
    }
  }
}

TrainingRun::Agreement TrainingRun::agree() {
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

void TrainingRun::evaluate() {
  environment_.heartbeat.begin_phase("evaluate");
  const Stopwatch watch;
  if (data_.has_validation()) {
    const EvaluationResult result =
        data_.evaluate(train_step_, mesh_, stream_, environment_.heartbeat);
    if (reporter_) {
      reporter_->evaluation(
          progress_, {result.loss, result.bits_per_byte, result.num_tokens, watch.seconds()});
    }
  }
  if (config_->evaluation().prompts_size() > 0) {
    sample();
  }
}

void TrainingRun::sample() {
  const config::Evaluation& evaluation = config_->evaluation();
  const data::Tokenizer& tokenizer = *data_.tokenizer();
  std::vector<Prompt> prompts;
  for (const std::string& text : evaluation.prompts()) {
    prompts.push_back(
        make_prompt(tokenizer, std::to_string(prompts.size()), data_.encode_prompt(text)));
  }
  GenerationOptions options;
  options.sampling.temperature = static_cast<float>(evaluation.temperature());
  options.seed = config_->run().seed();
  options.purpose = "evaluation sample";
  options.max_new_tokens = evaluation.sample_tokens();
  set_vocabulary(tokenizer, options);
  GenerationEvents events;
  events.step = [this](std::int64_t, const std::vector<Completion>&) {
    environment_.heartbeat.count_progress();
  };
  const std::vector<Completion> completions =
      Generator(model_, mesh_, stream_).generate(prompts, options, events);
  for (std::size_t i = 0; reporter_ && i < completions.size(); ++i) {
    reporter_->sample(progress_, evaluation.prompts(static_cast<int>(i)) +
                                     completion_text(tokenizer, completions[i]));
  }
}

void TrainingRun::save() {
  if (last_saved_step_ == progress_.step) {
    return;
  }
  environment_.heartbeat.begin_phase("write checkpoint");
  const Stopwatch watch;
  try {
    save_checkpoint(
        checkpoint_options_, progress_.step,
        [this](parallel::StateVisitor& visitor) { visit_state(visitor); }, identity_,
        environment_.world);
  } catch (const IoError& error) {  // the same on every rank
    throw parallel::Shared<IoError>(explain_failed_save(error.message()));
  }
  last_saved_step_ = progress_.step;
  if (reporter_) {
    reporter_->checkpoint(progress_.step,
                          checkpoint_folder(checkpoint_options_.root, progress_.step),
                          watch.seconds());
  }
}

std::string TrainingRun::explain_failed_save(const std::string& cause) const {
  return concat(
      "the checkpoint of step ", progress_.step, " could not be written: ", cause,
      ". Make room, or mend what else is the matter, and start the same command again: it ",
      last_saved_step_ < 0
          ? std::string("starts from the beginning")
          : concat("goes on from the checkpoint of step ", last_saved_step_, ", which is whole"));
}

void TrainingRun::write_skipped_batch(std::int64_t first_sample, std::int64_t num_samples) const {
  const std::filesystem::path path = std::filesystem::path(config_->run().directory()) / "log" /
                                     concat("not-finite-step-", progress_.step, ".json");
  write_file_atomically(path, concat("{\"step\": ", progress_.step, ", \"first_sample\": ",
                                     first_sample, ", \"num_samples\": ", num_samples, "}\n"));
  reporter_->note(concat("its samples are named in ", path.string()));
}

}  // namespace fathom::trainer
