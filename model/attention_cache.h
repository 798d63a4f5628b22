#pragma once

#include <map>

#include "core/tensor.h"

namespace fathom::model {

// What a layer keeps of the tokens of a sequence.
enum class CacheForm {
  // The keys and values of this rank's heads (kernels/paged_attention.h): the bits of the training
  // forward.
  kExpanded,
  // The latents that they follow from (kernels/latent_attention.h), whole on each tensor rank: as
  // the training forward within rounding, in num_heads (nope + value) + rope : rank + rope of the
  // memory.
  kLatent,
};

// Of one layer, for Pass::kGenerate.
struct AttentionCache {
  CacheForm form = CacheForm::kExpanded;
  Tensor pages;
  // kLatent: the layer's W_kvb as kernels::pack_absorbed arranges it; the weights must not change
  // while the cache lives.
  Tensor packed_key, packed_value;
};

// Of each layer that a rank holds, by its number.
using GenerationCache = std::map<int, AttentionCache>;

}  // namespace fathom::model
