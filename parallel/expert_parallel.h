#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/stream.h"
#include "core/tensor.h"
#include "parallel/comm/communicator.h"

namespace fathom::parallel {

// Where the rows of one micro-batch go: which (token, choice) slot goes to which expert rank, and
// how what arrives is arranged by local expert. Made once from the router's choice, used by the
// forward and the backward. Dropless: every slot is carried.
struct ExpertRoute {
  Tensor slot_of_row, row_of_slot;         // at home, see kernels/permute.h
  std::vector<std::int64_t> rows_to_each;  // per expert rank
  std::vector<std::int64_t> rows_from_each;
  std::int64_t num_home_rows = 0;    // tokens * top_k
  std::int64_t num_expert_rows = 0;  // rows that this rank's experts work on
  Tensor offsets;                    // [local experts + 1] int64: rows of each local expert
  // The same, cut further into contributions to the expert's gradient: by (source rank, unit of its
  // tokens) with unit_tokens, else not at all.
  Tensor part_offsets;
  // [num_expert_rows] int32: expert-ordered row <- arrived row; undefined when they agree.
  Tensor arrival_of_row;
  Tensor row_of_arrival;  // its inverse
};

struct ExpertRouteOptions {
  int num_experts = 0;
  std::int64_t unit_tokens = 0;  // of a gradient's contribution; divides a rank's tokens; 0: all
  // Meta device only, where no router chose: rows that this rank's experts get, as a multiple of
  // the mean.
  double assumed_imbalance = 1.0;
};

// Collective over `expert`. Experts are spread in order: rank r of E holds experts [r * n / E, (r +
// 1) * n / E).
//   expert_ids [num_tokens, top_k] int32, ascending in each row
// Arrived rows of one local expert keep the order (source rank, token): the order that a single
// rank would have.
ExpertRoute plan_expert_route(const Tensor& expert_ids, const ExpertRouteOptions& options,
                              Communicator& expert, Stream& stream);

// Rows under way to the experts of other ranks, or back. What the stream is given before wait()
// does not wait for them. Like the Work that it holds: it keeps its tensors alive, and must not
// outlive communicator and stream.
class [[nodiscard]] MovingRows {
 public:
  // Of which `work` makes `rows`.
  MovingRows(Tensor rows, Work work) : rows_(std::move(rows)), work_(std::move(work)) {}
  // The rows, once, with the stream ordered after their arrival. Throws CommError.
  Tensor wait() {
    work_.wait();
    return std::move(rows_);
  }

 private:
  Tensor rows_;
  Work work_;
};

// home rows [num_home_rows, size], sorted by expert  ->  [num_expert_rows, size] as they arrive: by
// source rank, then by expert. Collective, as the way back, which is the inverse and also the
// backward of the way there.
MovingRows send_to_experts(const ExpertRoute& route, const Tensor& home_rows, Communicator& expert,
                           Stream& stream);
MovingRows return_from_experts(const ExpertRoute& route, const Tensor& arrived_rows,
                               Communicator& expert, Stream& stream);

// The expert rows [num_expert_rows, size] by local expert, as products take them, from those as
// they arrived, and back. The tensor itself where both orders are the same.
Tensor rows_by_expert(const ExpertRoute& route, const Tensor& arrived_rows, Stream& stream);
Tensor rows_by_arrival(const ExpertRoute& route, const Tensor& expert_rows, Stream& stream);

}  // namespace fathom::parallel
