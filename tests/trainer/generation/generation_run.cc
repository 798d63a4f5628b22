#include "tests/trainer/generation/generation_run.h"

#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"
#include "trainer/evaluate_step.h"

namespace fathom::testing {

using trainer::Completion;
using trainer::EvaluateStep;
using trainer::Prompt;

std::vector<Completion> generate(const GenerationModel& model, const Layout& layout,
                                 const trainer::GenerationOptions& options,
                                 const std::vector<Prompt>& prompts) {
  std::vector<Completion> result;
  test::run_ranks(layout.mesh.world_size(), [&](parallel::Communicator& world, Stream&) {
    Stream stream(model.device, layout.threads, model.options.numerics.sum_order());
    TinyRun run(model.options, layout, world, stream);
    run.model().initialize(3);
    auto completions =
        trainer::Generator(run.model(), run.mesh(), stream).generate(prompts, options);
    if (world.rank() == 0) {
      result = std::move(completions);
    }
  });
  return result;
}

namespace {

// Losses of the training forward, of all completions in one batch of sequences padded to the
// model's max_position, one token of each sequence at a time.
std::vector<std::vector<double>> training_losses(const GenerationModel& model,
                                                 const std::vector<Prompt>& prompts,
                                                 const std::vector<Completion>& completions) {
  std::vector<std::vector<double>> losses(prompts.size());
  const std::int64_t length = model.options.max_position;
  test::run_ranks(1, [&](parallel::Communicator& world, Stream&) {
    Stream stream(model.device, 1, model.options.numerics.sum_order());
    Layout layout;
    layout.micro_batch_size = 4;
    FATHOM_CHECK(std::ssize(prompts) % layout.micro_batch_size == 0, prompts.size(), " prompts");
    TinyRun run(model.options, layout, world, stream);
    run.model().initialize(3);
    TinyBatch batch;
    batch.num_sequences = std::ssize(prompts);
    batch.sequence_length = length;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      std::vector<std::int32_t> tokens = prompts[i].tokens;
      tokens.insert(tokens.end(), completions[i].tokens.begin(), completions[i].tokens.end());
      tokens.resize(static_cast<std::size_t>(length) + 1, 1);
      batch.tokens.insert(batch.tokens.end(), tokens.begin(), tokens.end() - 1);
      batch.targets.insert(batch.targets.end(), tokens.begin() + 1, tokens.end());
    }
    const std::size_t main = batch.tokens.size();
    batch.targets.resize(2 * main, 0);  // of MTP, whose loss is not looked at
    EvaluateStep step(run.model(), run.mesh(), stream);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      for (std::size_t j = 0; j < completions[i].tokens.size(); ++j) {
        batch.masks.assign(2 * main, 0.0F);
        batch.masks[i * static_cast<std::size_t>(length) + prompts[i].tokens.size() + j - 1] = 1.0F;
        batch.masks[main] = 1.0F;
        trainer::TokenCounts counts;
        const auto micro_batches = run.micro_batches(batch, 0.3, counts);
        step.run(micro_batches);
        losses[i].push_back(step.take_totals().token_losses[0]);
      }
    }
  });
  return losses;
}

}  // namespace

std::size_t check_training_losses(const GenerationModel& model, const std::vector<Prompt>& prompts,
                                  const std::vector<Completion>& completions) {
  const auto losses = training_losses(model, prompts, completions);
  std::size_t num_tokens = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    for (std::size_t j = 0; j < losses[i].size(); ++j) {
      INFO("prompt " << i << ", token " << j);
      CHECK(static_cast<double>(-completions[i].logprobs[j]) == losses[i][j]);
      ++num_tokens;
    }
  }
  return num_tokens;
}

void check_equal(const std::vector<Completion>& found, const std::vector<Completion>& want) {
  REQUIRE(found.size() == want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    INFO("prompt " << i);
    CHECK(found[i].tokens == want[i].tokens);
    CHECK(found[i].logprobs == want[i].logprobs);
    CHECK(found[i].finish == want[i].finish);
  }
}

}  // namespace fathom::testing
