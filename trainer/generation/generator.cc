#include "trainer/generation/generator.h"

#include <algorithm>
#include <bit>
#include <iterator>

#include "core/error.h"
#include "core/host_copy.h"
#include "model/packed_weights.h"
#include "parallel/comm/agree.h"
#include "parallel/pipeline/executor.h"
#include "trainer/generation/generation_batch.h"

namespace fathom::trainer {
namespace {

constexpr std::int32_t kNoToken = -1;

std::vector<Feed> whole_of(std::span<const Feed> feeds) {
  std::vector<Feed> whole;
  std::copy_if(feeds.begin(), feeds.end(), std::back_inserter(whole),
               [](const Feed& feed) { return feed.is_whole; });
  return whole;
}

}  // namespace

Generator::Generator(model::PipelinedModel& model, const parallel::Mesh& mesh, Stream& stream)
    : model_(&model),
      mesh_(&mesh),
      stream_(&stream),
      schedule_(parallel::add_communication(parallel::forward_only(
          mesh.shape().pipeline, model.stages_per_rank(), mesh.shape().pipeline))) {
  parallel::simulate(schedule_, parallel::Costs{});  // refuses a schedule that cannot end
}

std::vector<Completion> Generator::generate(std::span<const Prompt> prompts,
                                            const GenerationOptions& options,
                                            const GenerationEvents& events) {
  const int num_data_ranks = mesh_->shape().data;
  Scheduler scheduler(prompts, options, model_->options().max_position, num_data_ranks);
  std::vector<RandomSource> random;
  for (const Prompt& prompt : prompts) {
    random.emplace_back(options.seed, concat(options.purpose, '/', prompt.id, '/', prompt.sample));
  }
  const model::PackedWeights packed(*model_, *stream_);
  model::GenerationCache cache = model_->make_cache(options.cache, scheduler.num_pages());
  for (std::int64_t num_steps = 1; !scheduler.is_done(); ++num_steps) {
    const std::vector<std::vector<Feed>> step = scheduler.next_step();
    const MicroBatchFeeds mine = deal(step[static_cast<std::size_t>(mesh_->coordinates().data)]);
    const std::vector<Drawn> drawn = run_step(mine, scheduler, random, options, cache);
    std::vector<Feed> whole;  // of all data ranks, as run_step draws
    std::vector<std::size_t> counts;
    for (const std::vector<Feed>& feeds : step) {
      const std::size_t before = whole.size();
      for (const std::vector<Feed>& micro_batch : deal(feeds)) {
        std::ranges::copy(whole_of(micro_batch), std::back_inserter(whole));
      }
      counts.push_back(whole.size() - before);
    }
    const std::vector<Drawn> all = exchange(drawn, counts);
    for (std::size_t i = 0; i < whole.size(); ++i) {
      scheduler.add_token(whole[i], all[i].token, all[i].logprob);
      if (events.token) {
        events.token(whole[i].sequence, scheduler.completions()[whole[i].sequence],
                     scheduler.is_finished(whole[i].sequence));
      }
    }
    if (events.step) {
      events.step(num_steps, scheduler.completions());
    }
  }
  return scheduler.take_completions();
}

// Feeds of a data rank to its micro-batches in turn.
Generator::MicroBatchFeeds Generator::deal(std::span<const Feed> feeds) const {
  MicroBatchFeeds dealt(static_cast<std::size_t>(schedule_.num_micro_batches));
  for (std::size_t i = 0; i < feeds.size(); ++i) {
    dealt[i % dealt.size()].push_back(feeds[i]);
  }
  return dealt;
}

// -> what the last stage drew; nothing on other pipeline ranks.
std::vector<Generator::Drawn> Generator::run_step(const MicroBatchFeeds& feeds,
                                                  const Scheduler& scheduler,
                                                  std::span<const RandomSource> random,
                                                  const GenerationOptions& options,
                                                  model::GenerationCache& cache) {
  std::vector<model::MicroBatch> micro_batches;
  for (const std::vector<Feed>& of_micro_batch : feeds) {
    micro_batches.push_back(
        make_generation_batch(of_micro_batch, scheduler, mesh_->tensor().world_size(), *stream_));
  }
  std::vector<Tensor> logits(feeds.size());
  model::StageStep step;
  step.micro_batches = micro_batches;
  step.pass = model::Pass::kGenerate;
  step.cache = &cache;
  step.logits = logits;
  model_->begin_step(step);
  parallel::run(schedule_, model_->stages(), mesh_->pipeline(), *stream_);
  std::vector<Drawn> drawn;
  for (std::size_t i = 0; i < feeds.size(); ++i) {
    if (logits[i].defined()) {
      draw(whole_of(feeds[i]), random, options, logits[i], drawn);
    }
  }
  return drawn;
}

// The same on all tensor ranks, which hold the same logits.
void Generator::draw(std::span<const Feed> feeds, std::span<const RandomSource> random,
                     const GenerationOptions& options, Tensor& logits, std::vector<Drawn>& drawn) {
  std::vector<kernels::SampleKey> keys;
  for (const Feed& feed : feeds) {
    keys.push_back({random[feed.sequence], feed.first + feed.count});
  }
  const Shape per_row{std::ssize(feeds)};
  Tensor tokens = Tensor::empty(per_row, DType::kInt32, *stream_);
  Tensor logprobs = Tensor::empty(per_row, DType::kFloat32, *stream_);
  const std::int64_t num_allowed =
      options.num_allowed == 0 ? logits.size(1) : std::min(options.num_allowed, logits.size(1));
  try {
    kernels::sample_tokens(options.sampling, keys, num_allowed, logits, tokens, *stream_);
  } catch (const ConfigError&) {  // logits that are not finite: for exchange() to tell all ranks
    drawn.resize(drawn.size() + feeds.size(), {kNoToken, 0.0F});
    return;
  }
  parallel::Communicator& tensor = mesh_->tensor();
  const int num_chunks = model_->options().numerics.chunks_per_rank(tensor) * tensor.world_size();
  kernels::token_logprobs(logits, tokens, num_chunks, logprobs, *stream_);
  const std::vector<std::int32_t> drawn_tokens = to_host<std::int32_t>(tokens, *stream_);
  const std::vector<float> drawn_logprobs = to_host<float>(logprobs, *stream_);
  for (std::size_t i = 0; i < feeds.size(); ++i) {
    drawn.push_back({drawn_tokens[i], drawn_logprobs[i]});
  }
}

// What all data ranks drew, rank by rank: counts[rank] tokens of each.
std::vector<Generator::Drawn> Generator::exchange(const std::vector<Drawn>& mine,
                                                  std::span<const std::size_t> counts) {
  const std::size_t width = 2 * std::ranges::max(counts);
  if (width == 0) {
    return {};
  }
  std::vector<std::int64_t> numbers(width, 0);
  for (std::size_t i = 0; i < mine.size(); ++i) {
    numbers[2 * i] = mine[i].token;
    numbers[2 * i + 1] = std::bit_cast<std::int32_t>(mine[i].logprob);
  }
  const std::vector<std::int64_t> all = parallel::gather_from_last_stages(numbers, *mesh_);
  std::vector<Drawn> drawn;
  for (std::size_t rank = 0; rank < counts.size(); ++rank) {
    for (std::size_t i = 0; i < counts[rank]; ++i) {
      const std::size_t at = rank * width + 2 * i;
      if (all[at] == kNoToken) {
        throw parallel::Shared<ConfigError>(
            "the model's logits are not finite: the weights have diverged; take an earlier "
            "checkpoint");
      }
      drawn.push_back({static_cast<std::int32_t>(all[at]),
                       std::bit_cast<float>(static_cast<std::int32_t>(all[at + 1]))});
    }
  }
  return drawn;
}

}  // namespace fathom::trainer
