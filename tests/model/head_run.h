#pragma once

#include <cstdint>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "model/context.h"

// The head with its loss on a few made-up tokens, and what its definition says of them.
namespace fathom::testing {

inline constexpr std::int64_t kHeadTokens = 24;
inline constexpr int kHeadHidden = 21;
inline constexpr std::int64_t kHeadClasses = 40;
inline constexpr float kHeadLogitScale = 1.25F;

struct HeadRun {
  int tensor_ranks = 1;
  std::int64_t chunk_tokens = kHeadTokens;
  bool is_exact = false;
  DType activations = DType::kFloat32;
  Device device = {};
  model::Pass pass = model::Pass::kTrain;
  // Weights of the loss that are known once all losses are: each token's loss over their sum.
  bool weighs_losses = false;
};

struct HeadResult {
  double loss = 0.0;                     // of all tokens
  std::vector<double> dx;                // [tokens, hidden]; empty where there is none
  std::vector<double> weight_gradient;   // [classes, hidden]
  std::vector<std::int64_t> exact_sums;  // the same, as EXACT holds them
  int num_weighed = 0;                   // calls of TokenLoss
};

HeadResult run_head(const HeadRun& run);

// The loss and its gradients by loops over doubles, of the values that `activations` can hold.
HeadResult head_reference(DType activations, bool weighs_losses);

// The largest difference, relative to the largest number wanted; infinite where the sizes differ.
double relative_gap(const std::vector<double>& found, const std::vector<double>& want);

}  // namespace fathom::testing
