#include "rl/reference_policy.h"

#include "core/bfloat16.h"
#include "parallel/host_state.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"
#include "tests/support/small_training.h"
#include "tests/support/tiny_run.h"

namespace fathom::rl {
namespace {

constexpr Device kCuda{DeviceType::kCuda, 0};

// What a run on `device` stores of the reference that `begin` gave it.
testing::Tensors store(
    Device device, DType dtype,
    const std::function<void(testing::TinyRun&, ReferencePolicy&, Stream&)>& begin) {
  testing::Tensors stored;
  model::ModelOptions options = testing::small_options();
  options.numerics.activation_dtype = dtype;
  test::run_ranks(
      1,
      [&](parallel::Communicator& world, Stream& stream) {
        testing::TinyRun run(options, {}, world, stream);
        ReferencePolicy reference(run.model().parameters(), stream);
        begin(run, reference, stream);
        testing::StoreTensors tensors(stored);
        parallel::HostState host(tensors, stream);
        reference.visit_state(host);
      },
      {}, device);
  return stored;
}

// What such a run makes of a stored one.
testing::Tensors pass_on(const testing::Tensors& stored, Device device, DType dtype) {
  return store(device, dtype, [&](testing::TinyRun&, ReferencePolicy& reference, Stream& stream) {
    testing::LoadTensors tensors(stored);
    parallel::HostState host(tensors, stream);
    reference.visit_state(host);
  });
}

}  // namespace

TEST_CASE("A reference goes from the CPU to CUDA in bfloat16 and back") {
  const testing::Tensors drawn =
      store({}, DType::kFloat32, [](testing::TinyRun& run, ReferencePolicy& reference, Stream&) {
        run.model().initialize(3);
        reference.refresh();
      });
  testing::Tensors rounded = drawn;
  for (auto& [key, values] : rounded) {
    for (float& value : values) {
      value = static_cast<float>(BFloat16(value));
    }
  }
  REQUIRE(rounded != drawn);
  const testing::Tensors on_cuda = pass_on(drawn, kCuda, DType::kBFloat16);
  CHECK(on_cuda == rounded);
  CHECK(pass_on(on_cuda, {}, DType::kFloat32) == rounded);
  CHECK(pass_on(on_cuda, kCuda, DType::kBFloat16) == rounded);
  CHECK(pass_on(drawn, kCuda, DType::kFloat32) == drawn);
}

}  // namespace fathom::rl
