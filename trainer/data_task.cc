#include "trainer/data_task.h"

#include "configs/schema/run.pb.h"
#include "optim/factory.h"
#include "parallel/comm/agree.h"
#include "trainer/factory.h"
#include "trainer/generation/generator.h"
#include "trainer/generation/text.h"
#include "trainer/token_schedules.h"

namespace fathom::trainer {

DataTask::DataTask(TrainingLoop& loop, RunData& data)
    : loop_(&loop), data_(&data), batch_ramp_(optim::make_batch_ramp(loop.config())) {}

std::int64_t DataTask::next_sample(std::int64_t samples, const config::RunConfig& stored) const {
  const std::int64_t before = stored.train().sequence_length();
  const std::int64_t now = loop_->config().train().sequence_length();
  return before == now ? samples : (samples * before + now - 1) / now;
}

void DataTask::begin() {
  data_->begin(loop_->mesh().coordinates().data, loop_->mesh().shape().data);
  if (Reporter* reporter = loop_->reporter()) {
    for (const std::string& line : data_->notes()) {
      reporter->note(line);
    }
  }
}

void DataTask::take_step() {
  loop_->begin_phase("read data");
  const Stopwatch watch;
  const RunProgress& progress = loop_->progress();
  const std::int64_t num_sequences = optim::global_batch_size(batch_ramp_, progress.tokens);
  const std::int64_t step_tokens = num_sequences * loop_->config().train().sequence_length();
  const std::int64_t next_size =
      optim::global_batch_size(batch_ramp_, progress.tokens + step_tokens);
  const std::vector<data::MicroBatch>* host = nullptr;
  parallel::agree(loop_->environment().world,
                  [&] { host = &data_->read({progress.samples, num_sequences}, next_size); });
  StepResult result;
  const StepOptions options = loop_->step_options(step_tokens);
  double data_seconds = 0.0;
  {
    const double mtp_weight = mtp_loss_weight(loop_->config(), progress.tokens);
    const DeviceBatch batch = make_device_batch(
        *host, {progress.samples, num_sequences, mtp_weight}, loop_->mesh(), loop_->stream());
    data_seconds = watch.seconds();
    result = loop_->train_step().run(batch.micro_batches, batch.counts, options,
                                     [this](const char* phase) { loop_->begin_phase(phase); });
  }
  result.phase_ms["data"] = data_seconds * 1e3;
  loop_->finish_step({.result = result,
                      .num_tokens = step_tokens,
                      .num_samples = num_sequences,
                      .learning_rate = options.learning_rate,
                      .seconds = watch.seconds()});
}

void DataTask::evaluate() {
  loop_->begin_phase("evaluate");
  const Stopwatch watch;
  if (data_->has_validation()) {
    const EvaluationResult result = data_->evaluate(
        loop_->evaluate_step(), loop_->mesh(), loop_->stream(), loop_->environment().heartbeat);
    if (Reporter* reporter = loop_->reporter()) {
      reporter->evaluation(loop_->progress(), result, watch.seconds());
    }
  }
  if (loop_->config().evaluation().prompts_size() > 0) {
    sample();
  }
}

void DataTask::sample() {
  const config::Evaluation& evaluation = loop_->config().evaluation();
  const data::Tokenizer& tokenizer = *data_->tokenizer();
  std::vector<Prompt> prompts;
  for (const std::string& text : evaluation.prompts()) {
    prompts.push_back(
        make_prompt(tokenizer, std::to_string(prompts.size()), data_->encode_prompt(text)));
  }
  GenerationOptions options;
  options.cache = make_cache_form(loop_->config());
  options.uses_graphs = loop_->config().run().cuda_graphs();
  options.sampling.temperature = static_cast<float>(evaluation.temperature());
  options.seed = loop_->config().run().seed();
  options.purpose = "evaluation sample";
  options.max_new_tokens = evaluation.sample_tokens();
  set_vocabulary(tokenizer, data_->completion_end(), options);
  GenerationEvents events;
  events.step = [this](std::int64_t, const std::vector<Completion>&) {
    loop_->environment().heartbeat.count_progress();
  };
  const std::vector<Completion> completions =
      Generator(loop_->model(), loop_->mesh(), loop_->stream()).generate(prompts, options, events);
  for (std::size_t i = 0; loop_->reporter() && i < completions.size(); ++i) {
    loop_->reporter()->sample(
        loop_->progress(),
        evaluation.prompts(static_cast<int>(i)) +
            completion_text(tokenizer, completions[i], data_->completion_end()).shown);
  }
}

}  // namespace fathom::trainer
