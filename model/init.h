#pragma once

#include <cstdint>

#include "parallel/parameter.h"

namespace fathom::model {

// Fills a parameter's value: N(0, std^2) for matrices (the papers' 0.006 by default), ones for norm
// gains. Every element is keyed by (seed, published name, index in the published tensor): the same
// weights on every layout and device. Drawn as float32 and rounded to the value's dtype.
void initialize(parallel::Parameter& parameter, std::uint64_t seed, float std, Stream& stream);

}  // namespace fathom::model
