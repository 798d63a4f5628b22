#include "trainer/likelihood.h"

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"
#include "tests/support/small_training.h"
#include "tests/support/tiny_run.h"
#include "tests/trainer/made_up_prompt.h"
#include "trainer/generation/generator.h"

namespace fathom::trainer {
namespace {

using testing::Layout;
using testing::TinyRun;

constexpr std::uint64_t kSeed = 3;  // of the weights
constexpr std::int64_t kMaxPosition = 63;

model::ModelOptions model_options() {
  model::ModelOptions options = testing::exact(testing::small_options());
  options.max_position = kMaxPosition;
  return options;
}

// Texts of different lengths and, for each, what generation said of its end as it drew it.
struct Reference {
  std::vector<ScoredText> texts;
  std::vector<double> log_likelihoods;
};

Reference draw_texts() {
  std::vector<Prompt> prompts;
  for (const std::int64_t length : {1, 5, 30, 2, 17, 9, 40}) {
    prompts.push_back(testing::made_up_prompt(concat("prompt ", prompts.size()), length));
  }
  GenerationOptions options;
  options.max_new_tokens = 12;
  options.end_tokens = {7};
  Reference reference;
  test::run_ranks(1, [&](parallel::Communicator& world, Stream& stream) {
    TinyRun run(model_options(), {}, world, stream);
    run.model().initialize(kSeed);
    const auto completions = Generator(run.model(), run.mesh(), stream).generate(prompts, options);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      ScoredText text{.tokens = prompts[i].tokens, .first_scored = prompts[i].tokens.size()};
      text.tokens.insert(text.tokens.end(), completions[i].tokens.begin(),
                         completions[i].tokens.end());
      reference.texts.push_back(std::move(text));
      double sum = 0.0;
      for (const float logprob : completions[i].logprobs) {
        sum += logprob;
      }
      reference.log_likelihoods.push_back(sum);
    }
  });
  return reference;
}

// What every rank gets; throws when one gets something else.
std::vector<double> score(const std::vector<ScoredText>& texts, const Layout& layout,
                          const LikelihoodOptions& options) {
  std::vector<std::vector<double>> of_rank(static_cast<std::size_t>(layout.mesh.world_size()));
  test::run_ranks(layout.mesh.world_size(), [&](parallel::Communicator& world, Stream& stream) {
    TinyRun run(model_options(), layout, world, stream);
    run.model().initialize(kSeed);
    of_rank[static_cast<std::size_t>(world.rank())] =
        log_likelihoods(texts, run.model(), run.mesh(), stream, options);
  });
  for (const std::vector<double>& other : of_rank) {
    FATHOM_CHECK(other == of_rank[0], "the ranks differ");
  }
  return of_rank[0];
}

}  // namespace

TEST_CASE("The likelihood of a text is the sum of what its tokens had when they were drawn") {
  const Reference reference = draw_texts();
  CHECK(score(reference.texts, {}, {.sequence_length = 32, .micro_batch_size = 1}) ==
        reference.log_likelihoods);
  // Many texts in a row, many rows in a batch, one row alone.
  CHECK(score(reference.texts, {}, {.sequence_length = 63, .micro_batch_size = 3}) ==
        reference.log_likelihoods);
  CHECK(score({reference.texts[3]}, {}, {.sequence_length = 8, .micro_batch_size = 2}) ==
        std::vector{reference.log_likelihoods[3]});
}

TEST_CASE("The likelihood of a text is the same on every layout") {
  const Reference reference = draw_texts();
  for (const parallel::MeshShape& mesh :
       {parallel::MeshShape{1, 1, 2, 1}, parallel::MeshShape{1, 2, 1, 2},
        parallel::MeshShape{2, 1, 1, 1}, parallel::MeshShape{2, 2, 2, 4}}) {
    Layout layout;
    layout.mesh = mesh;
    INFO(testing::to_string(layout));
    CHECK(score(reference.texts, layout, {.sequence_length = 40, .micro_batch_size = 2}) ==
          reference.log_likelihoods);
  }
  Layout interleaved;
  interleaved.mesh = {2, 1, 1, 1};
  interleaved.pipeline.stages_per_rank = 2;
  CHECK(score(reference.texts, interleaved, {.sequence_length = 1, .micro_batch_size = 2}) ==
        reference.log_likelihoods);
}

TEST_CASE("Rows that tensor ranks do not divide are filled up, beyond the model's positions too") {
  std::vector<ScoredText> texts;
  for (const std::int64_t length : {std::int64_t{8}, kMaxPosition + 1, std::int64_t{20}}) {
    texts.push_back({.tokens = testing::made_up_prompt(concat("text ", length), length).tokens});
  }
  const LikelihoodOptions options{.sequence_length = 8, .micro_batch_size = 1};
  const std::vector<double> alone = score(texts, {}, options);
  for (const int tensor : {2, 4}) {
    Layout layout;
    layout.mesh = {1, 1, tensor, 1};
    CHECK(score(texts, layout, options) == alone);
    CHECK(score({texts[0]}, layout, options) == std::vector{alone[0]});
  }
}

TEST_CASE("A text must have a token to score and a token before it") {
  const LikelihoodOptions options{.sequence_length = 8, .micro_batch_size = 1};
  CHECK_THROWS_AS(score({{.tokens = {1, 2}, .first_scored = 2}}, {}, options), InternalError);
  CHECK_THROWS_AS(score({{.tokens = {1, 2}, .first_scored = 0}}, {}, options), InternalError);
  CHECK(score({}, {}, options).empty());
}

}  // namespace fathom::trainer
