#pragma once

#include <cstdint>
#include <vector>

#include "optim/optimizer.h"
#include "parallel/parameter_buffer.h"

namespace fathom::optim {

struct AdamWHyperparameters {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  // on parameters whose weight_decay is set: matrices, not norm gains
  DType moment_dtype = DType::kFloat32;
  // Keeps a float32 copy of the shard for the update; then the values are that copy rounded to
  // parameter_dtype. Where the buffer's values are float32, as on the CPU, values of kBFloat16 are
  // float32 numbers that bfloat16 can hold. Values that are bfloat16 need it.
  bool master_weights = false;
  DType parameter_dtype = DType::kFloat32;
};

// AdamW (arXiv:1711.05101, algorithm 2; the update is in kernels/adamw.h), its moments sharded over
// the replicas of each parameter (ZeRO stage 1).
class AdamW final : public Optimizer {
 public:
  // `buffer` must outlive the optimizer. Throws InternalError for values of bfloat16 without master
  // weights.
  AdamW(parallel::ParameterBuffer& buffer, const AdamWHyperparameters& hyperparameters,
        Stream& stream);

  void step(double learning_rate, const Tensor& grad_scale, Stream& stream) override;
  void finish_step(bool was_update) override { num_updates_ += was_update ? 1 : 0; }
  void visit_state(parallel::StateVisitor& visitor) override;
  void values_drawn(Stream& stream) override;
  void weights_loaded(Stream& stream) override;

 private:
  struct ShardState {  // of one group
    Tensor exp_avg;
    Tensor exp_avg_sq;
    Tensor master;  // undefined without master weights
  };
  // What the update works on: the master copy, or the values themselves.
  static Tensor weights_of(const ShardState& state, const parallel::ParameterGroup& group) {
    return state.master.defined() ? state.master : group.value_shard;
  }
  // Whether values take another rounding than that to their own dtype.
  bool rounds_further(const parallel::ParameterGroup& group) const;
  void round_values(const ShardState& state, parallel::ParameterGroup& group, Stream& stream) const;

  parallel::ParameterBuffer* buffer_;
  AdamWHyperparameters hyperparameters_;
  std::vector<ShardState> states_;  // one per group
  std::int64_t num_updates_ = 0;
};

}  // namespace fathom::optim
