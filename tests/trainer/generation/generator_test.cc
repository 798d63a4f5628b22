#include "trainer/generation/generator.h"

#include <cmath>

#include "core/rng.h"
#include "parallel/comm/agree.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"
#include "tests/support/small_training.h"
#include "tests/support/tiny_run.h"
#include "tests/trainer/generation/generation_run.h"
#include "tests/trainer/made_up_prompt.h"

namespace fathom::trainer {
namespace {

using testing::check_equal;
using testing::GenerationModel;
using testing::Layout;
using testing::TinyRun;

constexpr std::int64_t kLength = 96;  // more than a block of keys
constexpr std::int64_t kNewTokens = 24;

model::ModelOptions model_options() {
  model::ModelOptions options = testing::exact(testing::small_options());
  options.max_position = kLength;
  options.numerics.gradients.tokens_per_step = 8 * kLength;
  return options;
}

// Of lengths that leave sequences at different positions, beyond one block for the longest.
std::vector<Prompt> make_prompts() {
  std::vector<Prompt> prompts;
  for (const std::int64_t length : {1, 5, 60, 17, 3, 44, 70, 9}) {
    prompts.push_back(testing::made_up_prompt(concat("prompt ", prompts.size()), length));
  }
  return prompts;
}

GenerationOptions generation_options() {
  GenerationOptions options;
  options.max_new_tokens = kNewTokens;
  options.num_allowed = 61;
  options.end_tokens = {7};
  options.seed = 11;
  return options;
}

Layout layout_of(const parallel::MeshShape& mesh, int stages_per_rank = 1) {
  Layout layout;
  layout.mesh = mesh;
  layout.pipeline.stages_per_rank = stages_per_rank;
  return layout;
}

const GenerationModel& the_model() {
  static const GenerationModel kModel{model_options()};
  return kModel;
}

std::vector<Completion> generate(const Layout& layout, const GenerationOptions& options,
                                 const std::vector<Prompt>& prompts) {
  return testing::generate(the_model(), layout, options, prompts);
}

TEST_CASE("Log-probabilities of a completion are those of the training forward, bit for bit") {
  const auto prompts = make_prompts();
  const auto completions = generate({}, generation_options(), prompts);
  CHECK(testing::check_training_losses(the_model(), prompts, completions) > 50);
}

TEST_CASE("A completion is the same on every layout, whatever is generated beside it") {
  const auto prompts = make_prompts();
  const auto want = generate({}, generation_options(), prompts);
  GenerationOptions options = generation_options();
  options.max_sequences = 2;
  options.max_step_tokens = 13;
  check_equal(generate({}, options, prompts), want);
  Layout threads;
  threads.threads = 3;
  check_equal(generate(threads, options, prompts), want);
  const std::vector<Layout> layouts{
      layout_of({1, 1, 2, 1}), layout_of({1, 2, 1, 2}), layout_of({2, 1, 1, 1}),
      layout_of({1, 2, 1, 1}), layout_of({1, 1, 4, 4}), layout_of({2, 1, 1, 1}, 2),
      layout_of({2, 2, 2, 4}),
  };
  for (const Layout& layout : layouts) {
    INFO(testing::to_string(layout));
    check_equal(generate(layout, generation_options(), prompts), want);
    check_equal(generate(layout, options, prompts), want);
  }
}

TEST_CASE("A prompt alone gets the completion that it gets among others, samples of it differ") {
  const auto prompts = make_prompts();
  const auto want = generate({}, generation_options(), prompts);
  check_equal(generate({}, generation_options(), {prompts[5]}), {want[5]});
  Prompt again = prompts[5];
  again.sample = 1;
  CHECK(generate({}, generation_options(), {again})[0].tokens != want[5].tokens);
  GenerationOptions options = generation_options();
  options.seed = 12;
  CHECK(generate({}, options, {prompts[5]})[0].tokens != want[5].tokens);
}

TEST_CASE("A completion that was interrupted after any step becomes what it would have been") {
  const auto prompts = make_prompts();
  const auto want = generate({}, generation_options(), prompts);
  std::vector<std::vector<Completion>> after_step;
  test::run_ranks(1, [&](parallel::Communicator& world, Stream& stream) {
    TinyRun run(model_options(), {}, world, stream);
    run.model().initialize(3);
    GenerationOptions options = generation_options();
    options.max_sequences = 5;
    options.max_step_tokens = 13;
    GenerationEvents events;
    events.step = [&](std::int64_t step, const std::vector<Completion>& so_far) {
      after_step.push_back(so_far);
      FATHOM_CHECK(step == std::ssize(after_step), "step ", step);
    };
    Generator(run.model(), run.mesh(), stream).generate(prompts, options, events);
  });
  check_equal(after_step.back(), want);
  for (std::size_t step = 0; step < after_step.size(); step += 5) {
    INFO("after step " << step + 1);
    std::vector<Prompt> begun = prompts;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      begun[i].begun = after_step[step][i];
    }
    check_equal(generate(layout_of({1, 1, 2, 1}), generation_options(), begun), want);
  }
}

// Prompts of few different tokens, some begun, some of which begin alike.
std::vector<Prompt> random_prompts(const RandomSource& random) {
  std::uint64_t count = 0;
  const auto below = [&](std::int64_t bound) {
    return static_cast<std::int64_t>(random.below(count++, static_cast<std::uint64_t>(bound)));
  };
  std::vector<Prompt> prompts;
  for (std::int64_t i = 0; i < 8; ++i) {
    Prompt prompt{concat("prompt ", i), 0, {}};
    if (i > 0 && below(3) > 0) {
      const Prompt& other = prompts[static_cast<std::size_t>(below(i))];
      prompt.id = other.id;
      prompt.sample = i;
      prompt.tokens = other.tokens;
      if (below(3) == 0) {
        prompt.tokens.resize(static_cast<std::size_t>(1 + below(std::ssize(prompt.tokens))));
        prompt.tokens.push_back(static_cast<std::int32_t>(below(61)));
      }
    }
    while (std::ssize(prompt.tokens) < 1 + below(80)) {
      prompt.tokens.push_back(static_cast<std::int32_t>(below(61)));
    }
    prompts.push_back(prompt);
  }
  return prompts;
}

TEST_CASE("Completions are those of each prompt alone, whatever is shared, preempted and begun") {
  const std::vector<Layout> layouts{{},
                                    layout_of({1, 1, 2, 1}),
                                    layout_of({1, 2, 1, 2}),
                                    layout_of({2, 1, 1, 1}),
                                    layout_of({2, 2, 1, 1})};
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    INFO("workload " << seed);
    const RandomSource random(seed, "workload");
    std::vector<Prompt> prompts = random_prompts(random);
    GenerationOptions options = generation_options();
    std::vector<Completion> want;
    for (const Prompt& prompt : prompts) {
      want.push_back(generate({}, options, {prompt})[0]);
    }
    if (seed == 0) {
      CHECK(testing::check_training_losses(the_model(), prompts, want) > 0);
    }
    for (std::size_t i = 0; i < prompts.size(); i += 1 + seed % 3) {
      const std::size_t num_begun = want[i].tokens.size() * (i % 4) / 3;
      prompts[i].begun.tokens.assign(
          want[i].tokens.begin(), want[i].tokens.begin() + static_cast<std::ptrdiff_t>(num_begun));
      prompts[i].begun.logprobs.assign(
          want[i].logprobs.begin(),
          want[i].logprobs.begin() + static_cast<std::ptrdiff_t>(num_begun));
    }
    options.max_sequences = 1 + static_cast<std::int64_t>(random.below(1000, 6));
    options.max_step_tokens = 1 + static_cast<std::int64_t>(random.below(1001, 100));
    options.cache_tokens = 64 * (2 + static_cast<std::int64_t>(random.below(1002, 3)));
    const Layout& layout = layouts[seed % layouts.size()];
    INFO(testing::to_string(layout));
    check_equal(generate(layout, options, prompts), want);
  }
}

TEST_CASE("Greedy, top-k and top-p generation do not depend on the layout either") {
  const auto prompts = make_prompts();
  for (const kernels::SamplingOptions& sampling :
       {kernels::SamplingOptions{0.0F, 0, 1.0F}, kernels::SamplingOptions{0.7F, 5, 0.8F}}) {
    GenerationOptions options = generation_options();
    options.sampling = sampling;
    check_equal(generate(layout_of({2, 1, 2, 2}), options, prompts),
                generate({}, options, prompts));
  }
}

// The largest difference of the log-probabilities of the same tokens.
double logprob_gap(const std::vector<Completion>& found, const std::vector<Completion>& want) {
  REQUIRE(found.size() == want.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    REQUIRE(found[i].tokens == want[i].tokens);
    for (std::size_t j = 0; j < want[i].logprobs.size(); ++j) {
      const double gap = std::abs(double{found[i].logprobs[j]} - double{want[i].logprobs[j]});
      REQUIRE_FALSE(std::isnan(gap));
      largest = std::max(largest, gap);
    }
  }
  return largest;
}

TEST_CASE("A cache of latents gives the completions of one of keys and values, within rounding") {
  const std::vector<Layout> layouts{{},
                                    layout_of({1, 1, 2, 1}),
                                    layout_of({1, 1, 4, 4}),
                                    layout_of({1, 2, 1, 2}),
                                    layout_of({2, 1, 1, 1}, 2),
                                    layout_of({2, 2, 2, 4})};
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const RandomSource random(seed, "workload");
    const std::vector<Prompt> prompts = random_prompts(random);
    GenerationOptions options = generation_options();
    options.seed = seed;
    const auto want = generate({}, options, prompts);
    options.cache = model::CacheForm::kLatent;
    for (const Layout& layout : layouts) {
      INFO("workload " << seed << ", " << testing::to_string(layout));
      options.max_sequences = 8;
      options.max_step_tokens = 512;
      options.cache_tokens = 0;
      CHECK(logprob_gap(generate(layout, options, prompts), want) < 1e-4);
      options.max_sequences = 3;
      options.max_step_tokens = 13;
      options.cache_tokens = 3 * 64;
      CHECK(logprob_gap(generate(layout, options, prompts), want) < 1e-4);
    }
  }
}

TEST_CASE("Generation leaves no trace in the counts of experts") {
  test::run_ranks(1, [&](parallel::Communicator& world, Stream& stream) {
    TinyRun run(model_options(), {}, world, stream);
    run.model().initialize(3);
    Generator(run.model(), run.mesh(), stream).generate(make_prompts(), generation_options());
    for (const auto& layer : run.model().moe_layers()) {
      for (const std::int64_t count : layer.moe->expert_counts().values<std::int64_t>()) {
        FATHOM_CHECK(count == 0, "layer ", layer.layer);
      }
    }
  });
}

TEST_CASE("Logits that are not finite on one data rank are the same error on every rank") {
  std::vector<int> errors(4, 0);
  test::run_ranks(4, [&](parallel::Communicator& world, Stream& stream) {
    TinyRun run(model_options(), layout_of({2, 2, 1, 1}), world, stream);
    run.model().initialize(3);
    if (run.mesh().coordinates().pipeline == 1 && run.mesh().coordinates().data == 1) {
      for (parallel::ParameterGroup& group : run.model().parameters().groups()) {
        kernels::fill(group.values, std::nanf(""), stream);
      }
    }
    try {
      Generator(run.model(), run.mesh(), stream).generate(make_prompts(), generation_options());
    } catch (const ConfigError& error) {
      const bool is_shared = dynamic_cast<const parallel::SharedError*>(&error) != nullptr;
      errors[static_cast<std::size_t>(world.rank())] = is_shared ? 1 : 0;
    }
  });
  CHECK(errors == std::vector<int>(4, 1));
}

}  // namespace
}  // namespace fathom::trainer
