#include "rl/policy_update.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/error.h"

namespace fathom::rl {

struct PolicyUpdater::MiniBatch {
  std::int64_t size = 0;                      // of all samples
  BatchCounts counts;                         // of those that take part
  std::vector<const RolloutSample*> samples;  // those to compute
  std::vector<PolicySequence> sequences;      // of these
  PolicyBatch batch;                          // this data rank's part
  trainer::DeviceBatch device;
  Logprobs old;                  // where the sampler's are not taken
  Logprobs reference;            // empty without one
  model::RoutingRecord routing;  // where it is replayed
};

namespace {

void add(trainer::StepResult& total, const trainer::StepResult& update) {
  if (update.is_finite) {
    total.loss += update.loss;
    total.grad_norm += update.grad_norm;
  }
  total.num_refused += update.num_refused;
  total.expert_load = update.expert_load;
  for (const auto& [phase, milliseconds] : update.phase_ms) {
    total.phase_ms[phase] += milliseconds;
  }
  for (const auto& [axis, bytes] : update.bytes_sent) {
    total.bytes_sent[axis] += bytes;
  }
}

}  // namespace

bool counts(const RolloutSample& sample, const PolicyLossOptions& loss) {
  const SequenceInfo info{
      .advantage = sample.advantage,
      .has_reward = sample.score.total.has_value(),
      .is_truncated = sample.completion.finish == trainer::FinishReason::kLength};
  return takes_part(info, loss) && !sample.completion.tokens.empty();
}

bool is_learnt(const RolloutGroup& group, const RolloutSample& sample,
               const PolicyLossOptions& loss) {
  return group.is_kept && counts(sample, loss) && (sample.advantage != 0.0 || loss.kl_weight > 0.0);
}

PolicyUpdater::PolicyUpdater(trainer::TrainStep& train_step, model::PipelinedModel& model,
                             const parallel::Mesh& mesh, Stream& stream, ReferencePolicy* reference)
    : train_step_(&train_step),
      evaluate_step_(model, mesh, stream),
      model_(&model),
      mesh_(&mesh),
      stream_(&stream),
      reference_(reference) {}

std::vector<PolicyUpdater::MiniBatch> PolicyUpdater::cut(const Rollout& rollout,
                                                         const PolicyUpdateOptions& options) const {
  std::vector<MiniBatch> mini_batches;
  std::int64_t num_samples = 0;
  for (const RolloutGroup& group : rollout.groups) {
    if (!group.is_kept) {
      continue;
    }
    for (const RolloutSample& sample : group.samples) {
      if (num_samples++ % options.batch_size == 0) {
        mini_batches.emplace_back();
      }
      MiniBatch& mini_batch = mini_batches.back();
      ++mini_batch.size;
      if (!counts(sample, options.loss)) {
        continue;
      }
      ++mini_batch.counts.num_sequences;
      mini_batch.counts.num_tokens += std::ssize(sample.completion.tokens);
      if (is_learnt(group, sample, options.loss)) {
        mini_batch.samples.push_back(&sample);
        mini_batch.sequences.push_back({group.prompt, sample.completion.tokens});
      }
    }
  }
  std::erase_if(mini_batches, [](const MiniBatch& batch) { return batch.samples.empty(); });
  return mini_batches;
}

void PolicyUpdater::pack(MiniBatch& mini_batch, const PolicyUpdateOptions& options) const {
  const parallel::MeshShape& shape = mesh_->shape();
  mini_batch.batch =
      pack_policy_batch(mini_batch.sequences,
                        {.sequence_length = options.sequence_length,
                         .micro_batch_size = options.micro_batch_size,
                         .num_data_ranks = shape.data,
                         .data_rank = mesh_->coordinates().data,
                         .micro_batch_multiple = model_->stages_per_rank() > 1 ? shape.pipeline : 1,
                         .vocab_size = model_->options().vocab_size});
  mini_batch.device = trainer::make_device_batch(
      mini_batch.batch.micro_batches, {0, mini_batch.batch.num_rows, 0.0}, *mesh_, *stream_);
  for (model::MicroBatch& micro_batch : mini_batch.device.micro_batches) {
    micro_batch.balance_scale = 0.0;
  }
}

// Of this data rank's sequences, on its last pipeline stage.
Logprobs PolicyUpdater::logprobs(MiniBatch& mini_batch, float temperature,
                                 model::RoutingRecord* routing) {
  LogprobRecorder recorder(mini_batch.batch, mini_batch.sequences);
  evaluate_step_.run(
      mini_batch.device.micro_batches,
      {.logit_scale = 1.0F / temperature, .token_loss = &recorder, .routing = routing});
  return recorder.take();
}

// What the weights that sampled say of each mini-batch: log-probabilities where the sampler's are
// not exact, experts where they are to be kept. In EXACT the first update has both of its own.
void PolicyUpdater::look_back(std::vector<MiniBatch>& mini_batches,
                              const PolicyUpdateOptions& options) {
  for (std::size_t i = options.samples_are_exact ? 1 : 0; i < mini_batches.size(); ++i) {
    MiniBatch& mini_batch = mini_batches[i];
    if (!options.samples_are_exact || options.replays_routing) {
      mini_batch.old = logprobs(mini_batch, options.temperature,
                                options.replays_routing ? &mini_batch.routing : nullptr);
      mini_batch.routing.complete();
    }
  }
}

void PolicyUpdater::train(MiniBatch& mini_batch, const PolicyUpdateOptions& options,
                          const trainer::StepOptions& step_options,
                          const trainer::ReportPhase& report_phase, PolicyUpdateResult& result) {
  const double share =
      static_cast<double>(mini_batch.size) / static_cast<double>(options.batch_size);
  std::vector<PolicyObjective::Sequence> sequences(mini_batch.samples.size());
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const RolloutSample& sample = *mini_batch.samples[i];
    sequences[i].old = options.samples_are_exact ? std::span(sample.completion.logprobs)
                                                 : std::span<const float>(mini_batch.old[i]);
    if (!mini_batch.reference.empty()) {
      sequences[i].reference = mini_batch.reference[i];
    }
    sequences[i].sampled = sample.completion.logprobs;
    sequences[i].advantage = sample.advantage;
    sequences[i].weight =
        share * token_weight(mini_batch.counts, std::ssize(sample.completion.tokens), options.loss);
  }
  PolicyObjective objective(options.loss, mini_batch.batch, std::move(sequences));
  trainer::StepOptions step = step_options;
  step.selection_bias_rate = 0.0;
  step.logit_scale = 1.0F / options.temperature;
  step.token_loss = &objective;
  step.routing = options.replays_routing ? &mini_batch.routing : nullptr;
  trainer::StepResult update = train_step_->run(mini_batch.device.micro_batches,
                                                mini_batch.device.counts, step, report_phase);
  const PolicyReport report = objective.report(mesh_->tensor().rank() == 0, mesh_->world());
  if (result.num_updates == 0) {
    FATHOM_CHECK(!options.samples_are_exact || report.num_different == 0,
                 "the trainer's log-probabilities of ", report.num_different,
                 " tokens are not those that they were sampled with; the largest difference is ",
                 report.largest_gap, ". EXACT promises the same bits: this is a bug");
    if (options.samples_are_exact) {
      result.largest_gap = std::max(result.largest_gap, report.largest_gap);
    }
    result.first_ratio_min = report.statistics.ratio_min;
    result.first_ratio_max = report.statistics.ratio_max;
  }
  update.loss = report.statistics.loss;
  update.is_finite = update.is_finite && std::isfinite(update.loss);
  add(result.step, update);
  result.statistics.add(report.statistics);
  for (const PolicySequence& sequence : mini_batch.sequences) {
    result.num_tokens += std::ssize(sequence.prompt) + std::ssize(sequence.completion);
  }
  ++result.num_updates;
  result.num_skipped += update.is_finite ? 0 : 1;
}

PolicyUpdateResult PolicyUpdater::update(const Rollout& rollout, const PolicyUpdateOptions& options,
                                         const trainer::StepOptions& step_options,
                                         const trainer::ReportPhase& report_phase) {
  PolicyUpdateResult result;
  std::vector<MiniBatch> mini_batches = cut(rollout, options);
  for (MiniBatch& mini_batch : mini_batches) {
    pack(mini_batch, options);
  }
  report_phase("old log-probabilities");
  look_back(mini_batches, options);
  result.largest_gap = largest_gap(mini_batches);
  if (reference_ != nullptr) {
    report_phase("reference log-probabilities");
    reference_->run([&] {
      for (MiniBatch& mini_batch : mini_batches) {
        mini_batch.reference = logprobs(mini_batch, options.temperature, nullptr);
      }
    });
  }
  for (MiniBatch& mini_batch : mini_batches) {
    train(mini_batch, options, step_options, report_phase, result);
  }
  const int num_made = result.num_updates - result.num_skipped;
  result.step.is_finite = result.num_skipped == 0 || num_made > 0;
  const double divisor = result.step.is_finite ? std::max(1, num_made) : 0.0;
  result.step.loss /= divisor;
  result.step.grad_norm /= divisor;
  return result;
}

// Over all ranks; sequences that another rank has are empty here.
double PolicyUpdater::largest_gap(const std::vector<MiniBatch>& mini_batches) const {
  double largest = 0;
  for (const MiniBatch& mini_batch : mini_batches) {
    for (std::size_t i = 0; i < mini_batch.old.size(); ++i) {
      const std::vector<float>& sampled = mini_batch.samples[i]->completion.logprobs;
      for (std::size_t t = 0; t < mini_batch.old[i].size(); ++t) {
        largest = std::max(largest, std::abs(static_cast<double>(mini_batch.old[i][t]) -
                                             static_cast<double>(sampled[t])));
      }
    }
  }
  const auto mine = std::bit_cast<std::int64_t>(largest);
  std::vector<std::int64_t> all(static_cast<std::size_t>(mesh_->world().world_size()));
  mesh_->world().all_gather_integers(std::span(&mine, 1), all);
  for (const std::int64_t bits : all) {
    largest = std::max(largest, std::bit_cast<double>(bits));
  }
  return largest;
}

}  // namespace fathom::rl
