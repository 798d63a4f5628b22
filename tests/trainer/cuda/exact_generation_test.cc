// EXACT on a CUDA device: generation against the training forward and against other layouts, by ==.
#include "tests/support/catch.h"
#include "tests/support/small_training.h"
#include "tests/trainer/generation/generation_run.h"
#include "tests/trainer/made_up_prompt.h"

namespace fathom::trainer {
namespace {

using testing::GenerationModel;
using testing::Layout;

constexpr std::int64_t kLength = 80;  // more than a page

GenerationModel model_of(DType dtype) {
  model::ModelOptions options = testing::tensor_core_options();
  options.max_position = kLength;
  options.numerics.activation_dtype = dtype;
  options = testing::exact(options);
  options.numerics.gradients.tokens_per_step = 8 * kLength;
  return {options, Device{DeviceType::kCuda, 0}};
}

std::vector<Prompt> make_prompts() {
  std::vector<Prompt> prompts;
  for (const std::int64_t length : {20, 1, 62, 17}) {
    prompts.push_back(
        testing::made_up_prompt(concat("prompt of ", length), length, std::ssize(prompts)));
  }
  return prompts;
}

GenerationOptions generation_options() {
  GenerationOptions options;
  options.max_new_tokens = 4;
  options.num_allowed = 61;
  options.end_tokens = {7};
  options.seed = 11;
  return options;
}

}  // namespace

TEST_CASE("EXACT on CUDA: log-probabilities of a completion are those of the training forward") {
  const DType dtype = GENERATE(DType::kBFloat16, DType::kFloat32);
  INFO(dtype);
  const std::vector<Prompt> prompts = make_prompts();
  const auto completions = testing::generate(model_of(dtype), {}, generation_options(), prompts);
  CHECK(testing::check_training_losses(model_of(dtype), prompts, completions) > 8);
}

TEST_CASE("EXACT on CUDA: a completion is the same on every layout, whatever is beside it") {
  const GenerationModel model = model_of(DType::kBFloat16);
  const std::vector<Prompt> prompts = make_prompts();
  const auto want = testing::generate(model, {}, generation_options(), prompts);
  testing::check_equal(testing::generate(model, {}, generation_options(), {prompts[2]}), {want[2]});
  GenerationOptions options = generation_options();
  options.max_sequences = 2;
  options.max_step_tokens = 13;
  testing::check_equal(testing::generate(model, {}, options, prompts), want);
  options.uses_graphs = false;
  for (const parallel::MeshShape& mesh :
       {parallel::MeshShape{1, 1, 2, 1}, {2, 1, 1, 1}, {1, 2, 2, 4}}) {
    Layout layout;
    layout.mesh = mesh;
    INFO(testing::to_string(layout));
    testing::check_equal(testing::generate(model, layout, options, prompts), want);
  }
}

}  // namespace fathom::trainer
