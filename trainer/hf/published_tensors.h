#pragma once

#include <string>
#include <vector>

#include "core/shape.h"
#include "model/options.h"

namespace fathom::trainer {

// A tensor of a published DeepSeek checkpoint.
struct PublishedTensor {
  std::string name;
  Shape shape;                   // one or two sizes
  bool is_block_scaled = false;  // in FP8 releases: codes, and scales as a tensor of their own
  bool is_float32 = false;       // in every release
  std::string copy_of;           // the tensor whose elements it repeats; "": none
};

// The tensors of a model under the names of DeepSeek-V2, V2-Lite and V3, layer by layer; module k
// of multi-token prediction is layer num_layers + k, with its copies of embedding and head. But for
// the copies these are the keys of our checkpoints. Throws ConfigError for a model of more tensors
// than a checkpoint may have.
std::vector<PublishedTensor> published_tensors(const model::ModelOptions& model);

// The name of the scales of a block-scaled tensor.
std::string scale_name(const std::string& tensor);

}  // namespace fathom::trainer
