#pragma once

#include "configs/schema/model.pb.h"
#include "model/options.h"

namespace fathom::model {

// From a resolved and validated config.
ModelOptions make_model_options(const config::Model& config);

}  // namespace fathom::model
