#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
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

// How gradients are summed over tokens and ranks (docs/numerics.md, rules 2 and 3).
struct GradientFormat {
  bool is_allocated = true;       // false: for a model that does not train; there are no gradients
  DType dtype = DType::kFloat32;  // of the sums: float32, or int64 for sums without order
  std::int64_t unit_tokens = 0;   // tokens of one contribution; 0: all of a micro-batch on a rank
  // Of int64 sums:
  int fraction_bits = 48;
  std::int64_t tokens_per_step = 0;  // the most of any step: no sum of contributions wraps
  int uses_per_token = 1;  // how often a step applies a weight that layers share to a token
};

// What a buffer holds of each parameter.
struct ParameterFormat {
  DType value_dtype = DType::kFloat32;  // float32 or bfloat16: that of the activations
  GradientFormat gradients;
  std::int64_t group_elements = 0;  // the least of a group; see cut_into_groups
};

// Neighbouring parameters with the same replicas, back to back in one array of values and one of
// gradients, so that one collective serves all. ZeRO stage 1 (arXiv:1910.02054): each replica owns
// an even range of elements, its shard, and keeps the optimizer's states of that range alone.
struct ParameterGroup {
  Communicator* replicas = nullptr;
  std::vector<Parameter*> parameters;
  Tensor values;                             // [padded] the format's value dtype
  Tensor gradients;                          // [padded] the dtype of the format's sums
  std::int64_t shard_size = 0;               // padded / replicas->world_size()
  std::vector<ParameterRange> shard_ranges;  // this rank's shard, without padding
  Tensor value_shard;                        // view of values
  Tensor gradient_shard;                     // float32; set by reduce_gradients()
};

// Owns the values and gradients of a rank's parameters, and moves both between replicas while the
// rank computes: a group's gradients are on their way as soon as they are complete, values until
// they are asked for. All replicas start the groups in one order, the last one first for gradients
// and the first one first for values, whatever order they come to them in.
class ParameterBuffer {
 public:
  // Allocates and hands each parameter its views. `parameters`, in the order in which the forward
  // pass needs them, outlive the buffer and stay where they are.
  ParameterBuffer(const std::vector<Parameter*>& parameters, const ParameterFormat& format,
                  Stream& stream);

  // In the order of the forward pass; their values have arrived.
  std::vector<ParameterGroup>& groups();
  std::int64_t num_local_elements() const noexcept;  // without padding

  // Begins the gradients of a step: all sums are empty, and those that stay so are zeros for the
  // replicas. float32 sums will be rounded to `sent_as` before replicas add them.
  void begin_gradients(Stream& stream, DType sent_as = DType::kFloat32);
  // This rank adds nothing more to the parameter's gradient. Starts the reduction of every group
  // whose gradients are complete, and those of all groups behind it.
  void gradient_complete(Parameter& parameter, Stream& stream);
  // gradient_shard of each group <- sum over replicas of what each has accumulated, in float32.
  // Starts what has not been started and waits for all. The gradients are used up: the shard lies
  // where they were.
  void reduce_gradients(Stream& stream);
  // [1] int64: contributions of this rank's tokens that int64 sums left out in this step: NaN, or
  // too large. Undefined for sums that leave nothing out.
  const Tensor& num_refused() const noexcept { return num_refused_; }
  // values of all replicas <- the owners' value shards. Started only: whoever asks for values
  // (Parameter::value, groups) waits for them, as far as they are asked for.
  void gather_values(Stream& stream);

 private:
  void lay_out(std::size_t group, DType value_dtype, Stream& stream);
  kernels::GradientSum gradient_sum(const Parameter& parameter, const Tensor& elements) const;
  void fill_padding(std::size_t group, Stream& stream);
  void start_reduction(std::size_t group, Stream& stream);
  void finish_reduction(std::size_t group, Stream& stream);

  // Where a parameter lies.
  struct Place {
    std::size_t group = 0;
    std::int64_t offset = 0;
  };
  // What a group has under way.
  struct Transfers {
    std::size_t num_incomplete = 0;  // parameters whose gradients are still added to
    Work reduction;
    Work gather;
  };

  GradientFormat format_;
  DType sent_as_ = DType::kFloat32;
  Tensor num_refused_;  // [1] int64; defined for int64 sums
  std::vector<ParameterGroup> groups_;
  std::map<Parameter*, Place> places_;
  std::size_t num_reductions_ = 0;    // started, of the last groups
  std::vector<Transfers> transfers_;  // one a group; ends before what it moves
};

// Calls visitor.tensor for elements [begin, end) of a parameter's array, cut into at most three
// rectangles of each published tensor that they touch. `elements` holds those elements;
// `key_suffix` is appended to the published names ("" for the values themselves).
void visit_range(const ParameterRange& range, const Tensor& shard, const std::string& key_suffix,
                 bool is_owner, StateVisitor& visitor);

}  // namespace fathom::parallel
