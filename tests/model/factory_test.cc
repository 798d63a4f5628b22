#include "model/factory.h"

#include "configs/schema/run.pb.h"
#include "tests/support/catch.h"

namespace fathom::model {

TEST_CASE("A model sums as numerics of the run says, and deterministically unless told otherwise") {
  config::RunConfig config;
  CHECK(make_numerics_options(config).gradients.dtype == DType::kInt64);
  config.mutable_numerics()->set_mode(config::Numerics::FAST);
  CHECK(make_numerics_options(config).gradients.dtype == DType::kFloat32);
  CHECK(make_numerics_options(config).is_deterministic);
  config.mutable_numerics()->set_deterministic(false);
  CHECK_FALSE(make_numerics_options(config).is_deterministic);
  CHECK_FALSE(make_model_options(config).numerics.is_deterministic);
}

}  // namespace fathom::model
