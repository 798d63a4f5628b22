#pragma once

#include "core/stream.h"
#include "model/attention_cache.h"
#include "model/loss_sums.h"
#include "model/micro_batch.h"
#include "model/options.h"
#include "model/routing_record.h"
#include "model/token_loss.h"
#include "parallel/mesh.h"

namespace fathom::model {

enum class Pass {
  kTrain,     // gradients follow
  kEvaluate,  // loss only
  kGenerate,  // new tokens of kept sequences: logits of given rows
};

// What a layer needs to know while it works on one micro-batch. Rows of activations outside a block
// are cut over the tensor axis: local token i is token local_first + i of the micro-batch.
struct Context {
  Stream& stream;
  const parallel::Mesh& mesh;
  const MicroBatch& batch;
  RecomputeOptions recompute;
  Pass pass = Pass::kTrain;
  double assumed_imbalance = 1.0;  // of experts, on the meta device
  LossSums* losses = nullptr;
  AttentionCache* cache = nullptr;  // Pass::kGenerate: of the layer that works
  int micro_batch = 0;              // its number in the step
  float logit_scale = 1.0F;         // of the loss: 1 / temperature
  TokenLoss* token_loss = nullptr;
  RoutingRecord* routing = nullptr;  // null: experts are chosen and forgotten

  std::int64_t local_tokens() const { return batch.num_tokens() / mesh.tensor().world_size(); }
  std::int64_t local_first() const { return mesh.tensor().rank() * local_tokens(); }
  Tensor local(const Tensor& per_token) const {
    return per_token.narrow(local_first(), local_first() + local_tokens());
  }
};

}  // namespace fathom::model
