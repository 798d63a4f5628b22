#include "trainer/generation/generator.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <optional>

#include "core/error.h"
#include "core/host_copy.h"
#include "model/packed_weights.h"
#include "parallel/comm/agree.h"
#include "parallel/pipeline/executor.h"

namespace fathom::trainer {
namespace {

std::vector<Feed> whole_of(std::span<const Feed> feeds) {
  std::vector<Feed> whole;
  std::copy_if(feeds.begin(), feeds.end(), std::back_inserter(whole),
               [](const Feed& feed) { return feed.is_whole; });
  return whole;
}

}  // namespace

// What one call works with.
struct Generator::Session {
  const GenerationOptions& options;
  Scheduler scheduler;
  std::vector<RandomSource> random = {};  // by sequence
  model::GenerationCache cache = {};
  std::optional<DecodeGraphs> graphs = {};
};

Generator::Generator(model::PipelinedModel& model, const parallel::Mesh& mesh, Stream& stream)
    : model_(&model),
      mesh_(&mesh),
      stream_(&stream),
      schedule_(parallel::make_executable(parallel::forward_only(
          mesh.shape().pipeline, model.stages_per_rank(), mesh.shape().pipeline))) {}

std::vector<Completion> Generator::generate(std::span<const Prompt> prompts,
                                            const GenerationOptions& options,
                                            const GenerationEvents& events) {
  Session session{
      .options = options,
      .scheduler = {prompts, options, model_->options().max_position, mesh_->shape().data}};
  Scheduler& scheduler = session.scheduler;
  for (const Prompt& prompt : prompts) {
    session.random.emplace_back(options.seed,
                                concat(options.purpose, '/', prompt.id, '/', prompt.sample));
  }
  const model::PackedWeights packed(*model_, *stream_);
  session.cache = model_->make_cache(options.cache, scheduler.num_pages());
  if (can_record()) {
    session.graphs.emplace(*stream_, options.uses_graphs);
  }
  for (std::int64_t num_steps = 1; !scheduler.is_done(); ++num_steps) {
    const std::vector<std::vector<Feed>> step = scheduler.next_step();
    const MicroBatchFeeds mine = deal(step[static_cast<std::size_t>(mesh_->coordinates().data)]);
    const std::vector<Drawn> drawn = run_step(mine, session);
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
  decode_counts_ = session.graphs ? session.graphs->counts() : DecodeCounts{};
  return scheduler.take_completions();
}

// Whether nothing in a step of single tokens asks the host or another rank.
bool Generator::can_record() const {
  const parallel::MeshShape& shape = mesh_->shape();
  return Graph::is_supported(*stream_) && shape.tensor == 1 && shape.pipeline == 1 &&
         shape.expert == 1;
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
std::vector<Drawn> Generator::run_step(const MicroBatchFeeds& feeds, Session& session) {
  std::vector<GenerationBatch> batches;
  for (const std::vector<Feed>& of_micro_batch : feeds) {
    GenerationInputs inputs(of_micro_batch, session.scheduler, session.random);
    if (session.graphs && inputs.is_decode()) {
      return decode(inputs, session);  // of the only micro-batch
    }
    inputs.fill_rows(mesh_->tensor().world_size());
    const BatchShape shape = inputs.shape();
    Tensor numbers =
        Tensor::empty(Shape{GenerationInputs::num_numbers(shape)}, DType::kInt32, *stream_);
    inputs.copy_to(numbers, *stream_);
    batches.push_back(GenerationInputs::batch_in(numbers, shape));
  }
  std::vector<Tensor> logits = forward(batches, session.cache);
  std::vector<Drawn> drawn;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    if (logits[i].defined()) {
      DrawnRows rows(logits[i].size(0), *stream_);
      draw(batches[i], session.options, logits[i], rows);
      std::ranges::copy(rows.to_host(rows.num_rows(), *stream_), std::back_inserter(drawn));
    }
  }
  return drawn;
}

std::vector<Drawn> Generator::decode(GenerationInputs& inputs, Session& session) {
  const std::int64_t count = inputs.shape().num_logit_rows;
  inputs.fill_decode();
  const DrawnRows& rows =
      session.graphs->run(inputs, [&](const GenerationBatch& batch, DrawnRows& drawn) {
        std::vector<Tensor> logits = forward({&batch, 1}, session.cache);
        draw(batch, session.options, logits[0], drawn);
      });
  return rows.to_host(count, *stream_);
}

// -> logits of each batch, where the last stage is this rank's and the batch wants some.
std::vector<Tensor> Generator::forward(std::span<const GenerationBatch> batches,
                                       model::GenerationCache& cache) {
  std::vector<model::MicroBatch> micro_batches;
  for (const GenerationBatch& batch : batches) {
    micro_batches.push_back(batch.micro_batch);
  }
  std::vector<Tensor> logits(batches.size());
  model::StageStep step;
  step.micro_batches = micro_batches;
  step.pass = model::Pass::kGenerate;
  step.cache = &cache;
  step.logits = logits;
  model_->begin_step(step);
  parallel::run(schedule_, model_->stages(), mesh_->pipeline(), *stream_);
  return logits;
}

// The same on all tensor ranks, which hold the same logits.
void Generator::draw(const GenerationBatch& batch, const GenerationOptions& options, Tensor& logits,
                     DrawnRows& drawn) {
  Tensor tokens = drawn.tokens();
  Tensor logprobs = drawn.logprobs();
  const std::int64_t num_allowed =
      options.num_allowed == 0 ? logits.size(1) : std::min(options.num_allowed, logits.size(1));
  try {
    kernels::sample_tokens(options.sampling, batch.sample_keys, num_allowed, logits, tokens,
                           *stream_);
  } catch (const ConfigError&) {  // logits that are not finite: for exchange() to tell all ranks
    const std::vector<std::int32_t> none(static_cast<std::size_t>(drawn.num_rows()),
                                         Drawn::kNoToken);
    from_host<std::int32_t>(none, tokens, *stream_);
    return;
  }
  parallel::Communicator& tensor = mesh_->tensor();
  const int num_chunks = model_->options().numerics.chunks_per_rank(tensor) * tensor.world_size();
  kernels::token_logprobs(logits, tokens, num_chunks, logprobs, *stream_);
}

// What all data ranks drew, rank by rank: counts[rank] tokens of each.
std::vector<Drawn> Generator::exchange(const std::vector<Drawn>& mine,
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
      if (all[at] == Drawn::kNoToken) {
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
