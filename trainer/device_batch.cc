#include "trainer/device_batch.h"

#include <algorithm>
#include <span>

#include "core/host_copy.h"
#include "parallel/comm/sums.h"

namespace fathom::trainer {
namespace {

template <class T>
Tensor to_device(std::span<const T> values, Stream& stream) {
  Tensor tensor = Tensor::empty(Shape{std::ssize(values)}, kDTypeOf<T>, stream);
  from_host(values, tensor, stream);
  return tensor;
}

TokenCounts count_valid_tokens(const std::vector<data::MicroBatch>& host,
                               const parallel::Mesh& mesh) {
  const auto depths = static_cast<std::size_t>(host.front().mtp_depth) + 1;
  TokenCounts mine(depths, 0);
  for (const data::MicroBatch& batch : host) {
    for (std::size_t depth = 0; depth < depths; ++depth) {
      const auto weights = batch.weights_at(static_cast<std::int64_t>(depth));
      mine[depth] += std::count_if(weights.begin(), weights.end(),
                                   [](float weight) { return weight != 0.0F; });
    }
  }
  return parallel::sum_integers(mine, mesh.data());
}

std::int64_t longest_segment(const data::MicroBatch& host) {
  std::int64_t longest = 0;
  for (std::size_t i = 0; i + 1 < host.segments.size(); ++i) {
    longest = std::max<std::int64_t>(longest, host.segments[i + 1] - host.segments[i]);
  }
  return longest;
}

model::Targets make_targets(const data::MicroBatch& host, std::int64_t depth, double scale,
                            Stream& stream) {
  model::Targets targets;
  targets.ids = to_device(host.targets_at(depth), stream);
  targets.mask = to_device(host.weights_at(depth), stream);
  std::vector<float> weights;
  for (const float weight : host.weights_at(depth)) {
    weights.push_back(static_cast<float>(scale * static_cast<double>(weight)));
  }
  targets.weights = to_device<float>(weights, stream);
  return targets;
}

model::MicroBatch make_micro_batch(const data::MicroBatch& host, const TokenCounts& counts,
                                   const GlobalBatch& global, Stream& stream) {
  model::MicroBatch batch;
  batch.num_sequences = host.num_sequences;
  batch.sequence_length = host.sequence_length;
  batch.first_token = (host.samples.front() - global.first_sample) * host.sequence_length;
  batch.tokens = to_device<std::int32_t>(host.tokens, stream);
  batch.positions = to_device<std::int32_t>(host.positions, stream);
  batch.segments = to_device<std::int32_t>(host.segments, stream);
  batch.max_segment_tokens = longest_segment(host);
  std::vector<std::int32_t> sequence_ids;
  for (std::int64_t i = 0; i < batch.num_tokens(); ++i) {
    sequence_ids.push_back(static_cast<std::int32_t>(i / batch.sequence_length));
  }
  batch.sequence_ids = to_device<std::int32_t>(sequence_ids, stream);
  batch.balance_scale = 1.0 / static_cast<double>(global.num_sequences);
  for (std::int64_t depth = 0; depth <= host.mtp_depth; ++depth) {
    const double weight =
        depth == 0 ? 1.0 : global.mtp_loss_weight / static_cast<double>(host.mtp_depth);
    const double count = static_cast<double>(counts[static_cast<std::size_t>(depth)]);
    batch.targets.push_back(make_targets(host, depth, count > 0.0 ? weight / count : 0.0, stream));
  }
  return batch;
}

}  // namespace

DeviceBatch make_device_batch(const std::vector<data::MicroBatch>& host, const GlobalBatch& global,
                              const parallel::Mesh& mesh, Stream& stream) {
  DeviceBatch batch;
  batch.counts = count_valid_tokens(host, mesh);
  for (const data::MicroBatch& micro_batch : host) {
    batch.micro_batches.push_back(make_micro_batch(micro_batch, batch.counts, global, stream));
  }
  return batch;
}

}  // namespace fathom::trainer
