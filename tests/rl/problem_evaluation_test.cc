#include "rl/problem_evaluation.h"

#include "core/error.h"
#include "data/tokenizer_json.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"
#include "tests/support/small_training.h"
#include "tests/support/tiny_run.h"
#include "trainer/generation/text.h"

namespace fathom::rl {
namespace {

constexpr std::int64_t kSamples = 3;

std::vector<Problem> make_problems() {
  return {{"a", "12 + 5 =", "17", "number"},
          {"b", "Say it. ", "yes", "text"},
          {"c", "Once more. ", "no", "text"},
          {"d", "Sort 3 1 2. ", "1 2 3", "integers"}};
}

ProblemEvaluationOptions evaluation_options(float temperature) {
  ProblemEvaluationOptions options;
  options.sampling.num_samples = kSamples;
  options.ks = {1, 2, 3};
  options.sampling.generation.sampling.temperature = temperature;
  options.sampling.generation.seed = 4;
  options.sampling.generation.max_new_tokens = 6;
  options.sampling.generation.num_allowed = 128;  // ASCII
  options.extraction.mode = ExtractionMode::kWhole;
  return options;
}

// What an untrained model does; the same on all ranks, or this throws.
ProblemEvaluation evaluate(const testing::Layout& layout, const std::vector<Problem>& problems,
                           const ProblemEvaluationOptions& options,
                           const data::Tokenizer& tokenizer = test::byte_tokenizer()) {
  model::ModelOptions model_options = testing::exact(testing::small_options());
  model_options.vocab_size = 264;
  model_options.max_position = 32;
  ProblemEvaluation result;
  test::run_ranks(layout.mesh.world_size(), [&](parallel::Communicator& world, Stream& stream) {
    testing::TinyRun run(model_options, layout, world, stream);
    run.model().initialize(5);
    trainer::Generator generator(run.model(), run.mesh(), stream);
    const ProblemEvaluation mine = evaluate_problems(
        generator, tokenizer, problems,
        [&](const Problem& problem) { return tokenizer.encode(problem.prompt); }, options);
    if (world.rank() == 0) {
      result = mine;
    } else {
      FATHOM_CHECK(std::ssize(mine.samples) == std::ssize(problems) * options.sampling.num_samples);
    }
  });
  return result;
}

// Whose token 0 is an answer: a model that may draw no other gives it.
data::Tokenizer answering_tokenizer() {
  data::TokenizerDefinition definition;
  definition.tokens.emplace_back("<answer>4</answer>");
  definition.added_tokens = {{"<answer>4</answer>", 0, true}};
  for (int byte = 0; byte < 256; ++byte) {
    definition.tokens.emplace_back(1, static_cast<char>(byte));
  }
  return data::Tokenizer(data::write_tokenizer_json(definition));
}

ProblemEvaluation answer(const std::string& prompt, const trainer::CompletionEnd& end,
                         ExtractionMode mode = ExtractionMode::kTagged) {
  const data::Tokenizer tokenizer = answering_tokenizer();
  ProblemEvaluationOptions options;
  trainer::set_vocabulary(tokenizer, end, options.sampling.generation);
  options.sampling.generation.num_allowed = 1;
  options.sampling.generation.max_new_tokens = 2;
  options.extraction.mode = mode;
  options.end = end;
  return evaluate({}, {{"a", prompt, "4", "number"}}, options, tokenizer);
}

void check_equal(const ProblemEvaluation& found, const ProblemEvaluation& want) {
  REQUIRE(found.samples.size() == want.samples.size());
  for (std::size_t i = 0; i < want.samples.size(); ++i) {
    INFO("sample " << i);
    CHECK(found.samples[i].text == want.samples[i].text);
    CHECK(found.samples[i].completion.logprobs == want.samples[i].completion.logprobs);
    CHECK(found.samples[i].judgement == want.samples[i].judgement);
  }
  CHECK(found.scores == want.scores);
}

}  // namespace

TEST_CASE("Completions of problems are judged by the problem's own verifier") {
  std::vector<Problem> problems = make_problems();
  const ProblemEvaluation wrong = evaluate({}, problems, evaluation_options(0.0F));
  REQUIRE(wrong.samples.size() == problems.size() * kSamples);
  CHECK(wrong.scores.solve_rate.mean == 0.0);
  CHECK(wrong.samples[4].problem == 1);
  CHECK(wrong.samples[4].sample == 1);
  // What it says at temperature 0 is made the right answer of one problem, in each of its samples.
  problems[2].answer = wrong.samples[2 * kSamples].text.shown;
  const ProblemEvaluation right = evaluate({}, problems, evaluation_options(0.0F));
  for (std::size_t i = 0; i < right.samples.size(); ++i) {
    INFO("sample " << i << ": " << right.samples[i].text.shown);
    CHECK((right.samples[i].judgement.verdict == Verdict::kCorrect) ==
          (right.samples[i].problem == 2));
  }
  CHECK(right.scores.solve_rate.mean == 0.25);
  CHECK(right.scores.pass_at.at(3).mean == 0.25);
  CHECK(right.scores.majority_at.at(3).mean == 0.25);
  CHECK(right.scores.mean_tokens == 6.0);
  CHECK(right.scores.cut_off_share == 1.0);
}

TEST_CASE("An evaluation on problems is the same on every layout, sample by sample") {
  const std::vector<Problem> problems = make_problems();
  const ProblemEvaluation want = evaluate({}, problems, evaluation_options(1.0F));
  CHECK(want.samples[0].text != want.samples[1].text);
  for (const parallel::MeshShape& mesh :
       {parallel::MeshShape{2, 1, 1, 1}, parallel::MeshShape{1, 2, 1, 2},
        parallel::MeshShape{2, 1, 2, 2}}) {
    testing::Layout layout;
    layout.mesh = mesh;
    INFO(testing::to_string(layout));
    ProblemEvaluationOptions options = evaluation_options(1.0F);
    options.sampling.generation.max_sequences = 3;
    check_equal(evaluate(layout, problems, options), want);
  }
}

TEST_CASE("Samples of a problem depend on its id and prompt, not on the problems beside it") {
  std::vector<Problem> problems = make_problems();
  problems[1].prompt = problems[2].prompt;
  const ProblemEvaluation all = evaluate({}, problems, evaluation_options(1.0F));
  const ProblemEvaluation alone = evaluate({}, {problems[2]}, evaluation_options(1.0F));
  for (std::size_t i = 0; i < kSamples; ++i) {
    CHECK(alone.samples[i].text == all.samples[2 * kSamples + i].text);
    CHECK(alone.samples[i].text != all.samples[kSamples + i].text);
  }
}

TEST_CASE("A stop string that closes an answer is judged with it, and shown apart") {
  const data::Tokenizer tokenizer = answering_tokenizer();
  const auto end = trainer::make_completion_end(tokenizer, {"</answer>"});
  const EvaluatedSample tagged = answer("2 + 2 = ", end).samples[0];
  CHECK(tagged.completion.tokens.size() == 1);
  CHECK(tagged.completion.finish == trainer::FinishReason::kStop);
  CHECK(tagged.text == trainer::CompletionText{"<answer>4", "</answer>"});
  CHECK(tagged.judged_text == "<answer>4</answer>");
  CHECK(tagged.judgement.verdict == Verdict::kCorrect);
  // All of the text is the answer, and the string is no part of that.
  const EvaluatedSample whole =
      answer("2 + 2 = ", trainer::make_completion_end(tokenizer, {"4</answer>"}),
             ExtractionMode::kWhole)
          .samples[0];
  CHECK(whole.judged_text == "<answer>");
  // The end of a chat's answers is never judged.
  const EvaluatedSample chat = answer("2 + 2 = ", {.tokens = {0}}).samples[0];
  CHECK(chat.completion.finish == trainer::FinishReason::kStop);
  CHECK(chat.judged_text.empty());
}

TEST_CASE("A prompt that ends in <think> has no answer before the thoughts end") {
  for (const std::string prompt : {"2 + 2 = <think>", "2 + 2 = <think>\n "}) {
    CHECK(answer(prompt, {}).samples[0].judgement.reason == "no answer");
  }
  for (const std::string prompt : {"Use <think>: 2 + 2 = ", "<think></think>"}) {
    CHECK(answer(prompt, {}).samples[0].judgement.verdict == Verdict::kCorrect);
  }
}

TEST_CASE("An evaluation that could not be counted is refused before anything is drawn") {
  ProblemEvaluationOptions options = evaluation_options(1.0F);
  CHECK_THROWS_WITH(evaluate({}, {}, options), Catch::Contains("0 problems"));
  CHECK_THROWS_WITH(evaluate({}, {{"a", "1 + 1 =", "2", "oracle"}}, options),
                    Catch::Contains("oracle"));
  options.ks = {4};
  std::int64_t num_tokens = 0;
  options.sampling.progress = [&] { ++num_tokens; };
  CHECK_THROWS_WITH(evaluate({}, make_problems(), options), Catch::Contains("pass@4"));
  CHECK(num_tokens == 0);
}

}  // namespace fathom::rl
