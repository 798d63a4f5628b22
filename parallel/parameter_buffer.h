#pragma once

#include <cstdint>
#include <vector>

#include "core/stream.h"
#include "core/tensor.h"
#include "parallel/parameter.h"
#include "parallel/state_visitor.h"

namespace fathom::parallel {

// A part of one parameter: elements [begin, end) of its local array.
struct ParameterRange {
  Parameter* parameter = nullptr;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t shard_offset = 0;  // where the range starts in the shard
};

// All parameters with the same replicas, back to back in one array of values and one of gradients,
// so that one collective serves all. ZeRO stage 1 (arXiv:1910.02054): each replica owns an even
// range of elements, its shard, and keeps the optimizer's states of that range alone.
struct ParameterGroup {
  Communicator* replicas = nullptr;
  std::vector<Parameter*> parameters;
  Tensor values;                             // [padded] compute dtype
  Tensor gradients;                          // [padded] float32
  std::int64_t shard_size = 0;               // padded / replicas->world_size()
  std::vector<ParameterRange> shard_ranges;  // this rank's shard, without padding
  Tensor value_shard;                        // view of values
  Tensor gradient_shard;                     // set by reduce_gradients()
};

// Owns the values and gradients of a rank's parameters, and moves both between replicas.
class ParameterBuffer {
 public:
  // Allocates and hands each parameter its views. `parameters` outlive the buffer and stay where
  // they are.
  ParameterBuffer(const std::vector<Parameter*>& parameters, Stream& stream);

  std::vector<ParameterGroup>& groups() noexcept { return groups_; }
  std::int64_t num_local_elements() const noexcept;  // without padding

  void zero_gradients(Stream& stream);
  // gradient_shard of each group <- sum over replicas of what each has accumulated in float32,
  // rounded to `dtype` first.
  void reduce_gradients(Stream& stream, DType dtype = DType::kFloat32);
  // values of all replicas <- the owners' value shards.
  void gather_values(Stream& stream);

 private:
  std::vector<ParameterGroup> groups_;
};

// Calls visitor.tensor for elements [begin, end) of a parameter's array, cut into at most three
// rectangles of each published tensor that they touch. `elements` holds those elements;
// `key_suffix` is appended to the published names ("" for the values themselves).
void visit_range(const ParameterRange& range, const Tensor& shard, const std::string& key_suffix,
                 bool is_owner, StateVisitor& visitor);

}  // namespace fathom::parallel
