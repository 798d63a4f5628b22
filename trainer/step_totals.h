#pragma once

#include <cstdint>
#include <vector>

#include "core/stream.h"
#include "core/tensor.h"
#include "model/loss_sums.h"
#include "parallel/comm/communicator.h"
#include "parallel/parameter_buffer.h"
#include "trainer/loss_totals.h"

namespace fathom::trainer {

// What a training step adds up over the ranks and the host is told at its end, in one array on the
// device: whether there is an update and how far it is clipped is decided there, so that nothing
// waits for the host in between.
class StepTotals {
 public:
  // On the host, the same on every rank except for the loads.
  struct Values {
    LossTotals losses;
    double grad_norm = 0.0;           // sqrt(sum of squares) over the model, before clipping
    std::int64_t num_non_finite = 0;  // elements of the gradient that are NaN or Inf
    std::int64_t num_refused = 0;     // contributions that integer sums left out
    bool is_finite = true;            // none of the above says otherwise: there was an update
    std::vector<std::int64_t> loads;
  };

  // num_loads: numbers that the caller adds up, in loads().
  StepTotals(std::int64_t num_depths, std::int64_t num_loads, Stream& stream);

  // Adds up losses and gradients of all ranks. Collective over `world`.
  void add(model::LossSums& losses, parallel::ParameterBuffer& parameters,
           parallel::Communicator& world, Stream& stream);
  // [1] float32, of the device, after add(): see kernels/gradient_norm.h.
  Tensor update_scale(double max_norm, Stream& stream) const;
  Tensor& loads() noexcept { return loads_; }  // [num_loads] int64
  // Waits for the device.
  Values read(Stream& stream) const;

 private:
  Tensor numbers_;   // int64, of which the others are parts
  Tensor sums_;      // [num_depths + 2, kExactSumIntegers]: squares, token losses, balance losses
  Tensor counters_;  // [2]: not finite, refused
  Tensor loads_;
};

}  // namespace fathom::trainer
