#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "configs/schema/run.pb.h"

namespace fathom::config {

// Which kernel multiplies bfloat16 on a GPU depends on whether sizes are multiples of this. So that
// it does not depend on the layout, numerics.mode EXACT wants each chunk of a size that tensor
// parallelism cuts to be one.
inline constexpr std::int64_t kTensorCoreMultiple = 8;

struct CutSize {
  std::string_view name;
  std::int64_t size = 0;  // 0 where a factor makes no sense
};

// Those sizes; none where products are not of bfloat16. The optimizer's dtypes are resolved.
std::vector<CutSize> tensor_core_sizes(const RunConfig& config);

// Whether all of them are multiples of num_chunks x kTensorCoreMultiple.
bool chunks_fit_tensor_cores(const RunConfig& config, std::int64_t num_chunks);

}  // namespace fathom::config
