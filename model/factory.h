#pragma once

#include "configs/schema/run.pb.h"
#include "model/options.h"

namespace fathom::model {

// From a resolved and validated config. The first one leaves `numerics` at its defaults.
ModelOptions make_model_options(const config::Model& config);
ModelOptions make_model_options(const config::RunConfig& config);
NumericsOptions make_numerics_options(const config::RunConfig& config);

}  // namespace fathom::model
