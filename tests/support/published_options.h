#pragma once

#include <string>

#include "configs/load.h"
#include "configs/schema/model.pb.h"
#include "model/factory.h"
#include "tests/support/paths.h"

namespace fathom::test {

// Of configs/models/NAME.textproto.
inline model::ModelOptions published_options(const std::string& name) {
  return model::make_model_options(
      config::load_model(source_path("configs/models/" + name + ".textproto")));
}

}  // namespace fathom::test
