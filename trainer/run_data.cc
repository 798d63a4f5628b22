#include "trainer/run_data.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "parallel/comm/agree.h"
#include "parallel/comm/sums.h"

namespace fathom::trainer {
namespace {

// Takes the targets of one sequence out of the sums.
void count_nothing(data::MicroBatch& batch, std::int64_t sequence) {
  const auto row = static_cast<std::ptrdiff_t>(sequence * batch.sequence_length);
  for (std::int64_t depth = 0; depth <= batch.mtp_depth; ++depth) {
    const auto at = static_cast<std::ptrdiff_t>(depth * batch.num_tokens()) + row;
    std::fill_n(batch.loss_weights.begin() + at, batch.sequence_length, 0.0F);
  }
  std::fill_n(batch.target_bytes.begin() + row, batch.sequence_length, 0);
}

}  // namespace

RunData::RunData(const config::RunConfig& config, RunSources sources)
    : micro_batch_size_(config.train().micro_batch_size()),
      num_evaluation_sequences_(config.evaluation().num_sequences()),
      prefetches_(config.data().prefetch()),
      sources_(std::move(sources)) {}

RunData::~RunData() = default;
RunData::RunData(RunData&&) noexcept = default;

void RunData::begin(std::int64_t data_rank, std::int64_t num_data_ranks) {
  loader_ = std::make_unique<data::BatchLoader>(
      *sources_.training, data::BatchLoaderOptions{data_rank, num_data_ranks, micro_batch_size_});
  if (prefetches_) {
    prefetcher_ = std::make_unique<data::Prefetcher>(*loader_);
  }
}

const std::vector<data::MicroBatch>& RunData::read(const data::StepSamples& step,
                                                   std::int64_t next_count) {
  if (!prefetcher_) {
    loader_->read(step, batches_);
    return batches_;
  }
  const std::vector<data::MicroBatch>& taken = prefetcher_->take(step);
  prefetcher_->request({step.first_sample + step.count, next_count});
  return taken;
}

// Held-out sequences from `first` on; those from `end` on count nothing. -> bytes of the text
std::int64_t RunData::read_held_out(std::int64_t first, std::int64_t end,
                                    std::vector<data::MicroBatch>& batches) const {
  std::int64_t num_bytes = 0;
  for (data::MicroBatch& batch : batches) {
    sources_.held_out->read(first, micro_batch_size_, batch);
    for (std::int64_t s = std::max<std::int64_t>(0, end - first); s < micro_batch_size_; ++s) {
      count_nothing(batch, s);
    }
    num_bytes +=
        std::accumulate(batch.target_bytes.begin(), batch.target_bytes.end(), std::int64_t{0});
    first += micro_batch_size_;
  }
  return num_bytes;
}

EvaluationResult RunData::evaluate(EvaluateStep& step, const parallel::Mesh& mesh, Stream& stream,
                                   parallel::Heartbeat& heartbeat) const {
  std::int64_t num_sequences = sources_.held_out->num_sequences();
  if (num_evaluation_sequences_ > 0) {
    num_sequences = std::min(num_sequences, num_evaluation_sequences_);
  }
  // Batches of a few micro-batches a rank keep the pipeline busy and memory small.
  const std::int64_t micro_batches = std::int64_t{2} * mesh.shape().pipeline;
  const std::int64_t part = micro_batch_size_ * micro_batches;
  const std::int64_t batch_size = part * mesh.shape().data;
  std::int64_t num_tokens = 0;
  std::int64_t num_bytes = 0;
  for (std::int64_t first = 0; first < num_sequences; first += batch_size) {
    heartbeat.count_progress();
    std::vector<data::MicroBatch> host(static_cast<std::size_t>(micro_batches));
    parallel::agree(mesh.world(), [&] {
      num_bytes += read_held_out(first + mesh.coordinates().data * part, num_sequences, host);
    });
    // Sequences are counted from the first of all: where one lies in a batch follows from the
    // layout.
    const DeviceBatch batch = make_device_batch(host, {0, batch_size, 0.0}, mesh, stream);
    step.run(batch.micro_batches);
    num_tokens += batch.counts[0];
  }
  const std::int64_t all_bytes =
      parallel::sum_integers(std::span(&num_bytes, 1), mesh.data()).front();
  const double nats = step.take_totals().token_losses[0];
  return {nats / static_cast<double>(num_tokens),
          nats / std::numbers::ln2 / static_cast<double>(all_bytes), num_tokens};
}

}  // namespace fathom::trainer
