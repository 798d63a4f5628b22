// Generation on a CUDA device with recorded steps: against the same steps given launch by launch,
// and against the CPU.
#include "trainer/generation/decode_graphs.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/host_copy.h"
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

constexpr Device kCuda{DeviceType::kCuda, 0};
constexpr std::int64_t kLength = 96;  // more than a page

model::ModelOptions model_options(DType dtype) {
  model::ModelOptions options = testing::small_options();
  options.max_position = kLength;
  options.num_layers = 2;  // dense and experts
  options.mtp_depth = 0;
  options.numerics.activation_dtype = dtype;
  return options;
}

// Some begin alike, one grows beyond a page.
std::vector<Prompt> make_prompts() {
  std::vector<Prompt> prompts;
  for (const std::int64_t length : {20, 20, 60, 17, 3}) {
    prompts.push_back(
        testing::made_up_prompt(concat("prompt of ", length), length, std::ssize(prompts)));
  }
  return prompts;
}

GenerationOptions generation_options() {
  GenerationOptions options;
  options.max_new_tokens = 12;
  options.num_allowed = 61;
  options.end_tokens = {7};
  options.seed = 11;
  return options;
}

struct Result {
  std::vector<Completion> completions;
  DecodeCounts counts;
  std::int64_t bytes_before = 0;
  std::int64_t bytes_after = 0;
};

// What rank 0 gets, and how it came to it.
Result generate(const GenerationOptions& options, Device device, DType dtype = DType::kFloat32,
                const parallel::MeshShape& mesh = {}) {
  Result result;
  Layout layout;
  layout.mesh = mesh;
  test::run_ranks(
      mesh.world_size(),
      [&](parallel::Communicator& world, Stream& stream) {
        TinyRun run(model_options(dtype), layout, world, stream);
        run.model().initialize(3);
        Generator generator(run.model(), run.mesh(), stream);
        const std::int64_t before = stream.allocator()->bytes_in_use();
        auto completions = generator.generate(make_prompts(), options);
        if (world.rank() == 0) {
          result = {std::move(completions), generator.decode_counts(), before,
                    stream.allocator()->bytes_in_use()};
        }
      },
      {}, device);
  return result;
}

void check_equal(const Result& found, const Result& want) {
  REQUIRE(found.completions.size() == want.completions.size());
  for (std::size_t i = 0; i < want.completions.size(); ++i) {
    INFO("prompt " << i);
    CHECK(found.completions[i].tokens == want.completions[i].tokens);
    CHECK(found.completions[i].logprobs == want.completions[i].logprobs);
    CHECK(found.completions[i].finish == want.completions[i].finish);
  }
}

// How often a sequence had to go when the completions were made.
std::int64_t num_preemptions(const Result& result, const GenerationOptions& options) {
  const std::vector<Prompt> prompts = make_prompts();
  Scheduler scheduler(prompts, options, kLength, 1);
  while (!scheduler.is_done()) {
    const auto step = scheduler.next_step();
    for (const Feed& feed : step[0]) {
      if (feed.is_whole) {
        const std::size_t place = scheduler.completions()[feed.sequence].tokens.size();
        scheduler.add_token(feed, result.completions[feed.sequence].tokens[place], -1.0F);
      }
    }
  }
  return scheduler.num_preemptions();
}

// The largest difference of the log-probabilities of the same tokens.
double logprob_gap(const Result& found, const Result& want) {
  double largest = 0.0;
  for (std::size_t i = 0; i < want.completions.size(); ++i) {
    REQUIRE(found.completions[i].tokens == want.completions[i].tokens);
    for (std::size_t j = 0; j < want.completions[i].logprobs.size(); ++j) {
      largest = std::max(largest, std::abs(double{found.completions[i].logprobs[j]} -
                                           double{want.completions[i].logprobs[j]}));
    }
  }
  return largest;
}

}  // namespace

TEST_CASE("Recorded steps give the tokens and log-probabilities of steps launch by launch") {
  GenerationOptions options = generation_options();
  options.cache = GENERATE(model::CacheForm::kExpanded, model::CacheForm::kLatent);
  options.sampling =
      GENERATE(kernels::SamplingOptions{0.0F, 0, 1.0F}, kernels::SamplingOptions{0.8F, 20, 0.9F});
  const DType dtype = options.sampling.top_k == 0 ? DType::kFloat32 : DType::kBFloat16;
  const Result recorded = generate(options, kCuda, dtype);
  options.uses_graphs = false;
  const Result given = generate(options, kCuda, dtype);
  check_equal(recorded, given);
  CHECK(given.counts.num_recorded == 0);
  CHECK(recorded.counts.num_replayed > recorded.counts.num_given);
  CHECK(recorded.counts.num_given + recorded.counts.num_recorded + recorded.counts.num_replayed ==
        given.counts.num_given);
  CHECK(recorded.bytes_after == recorded.bytes_before);
  if (dtype == DType::kFloat32) {
    const Result cpu = generate(options, {});
    CHECK(logprob_gap(recorded, cpu) < 1e-4);
    CHECK(cpu.counts.num_given == 0);
  }
}

TEST_CASE("Recorded steps follow sequences that come, go, are preempted and share pages") {
  GenerationOptions options = generation_options();
  options.cache = GENERATE(model::CacheForm::kExpanded, model::CacheForm::kLatent);
  options.max_new_tokens = 20;
  options.max_sequences = 4;
  options.max_step_tokens = 13;
  options.cache_tokens = 3 * 64;
  const Result recorded = generate(options, kCuda);
  options.uses_graphs = false;
  check_equal(recorded, generate(options, kCuda));
  CHECK(logprob_gap(recorded, generate(options, {})) < 1e-4);
  CHECK(recorded.counts.num_replayed > 0);
  CHECK(num_preemptions(recorded, options) > 0);
}

TEST_CASE("Data ranks record each for itself, steps that other ranks have a part in are given") {
  GenerationOptions options = generation_options();
  const Result want = generate(options, {});
  const Result data = generate(options, kCuda, DType::kFloat32, {1, 2, 1, 1});
  CHECK(logprob_gap(data, want) < 1e-4);
  CHECK(data.counts.num_replayed > 0);
  const parallel::MeshShape mesh =
      GENERATE(parallel::MeshShape{1, 1, 2, 1}, parallel::MeshShape{2, 1, 1, 1},
               parallel::MeshShape{1, 2, 1, 2});
  const Result others = generate(options, kCuda, DType::kFloat32, mesh);
  CHECK(logprob_gap(others, want) < 1e-4);
  CHECK(others.counts.num_given + others.counts.num_recorded == 0);
}

}  // namespace fathom::trainer
