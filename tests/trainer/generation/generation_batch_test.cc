#include "trainer/generation/generation_batch.h"

#include <algorithm>
#include <vector>

#include "core/rng.h"
#include "tests/support/catch.h"

namespace fathom::trainer {

TEST_CASE("Decodes are filled up to few shapes") {
  std::vector<Prompt> prompts(300, {"a prompt", 0, {1, 2, 3}});
  GenerationOptions options;
  options.max_sequences = 300;
  Scheduler scheduler(prompts, options, 96, 1);
  const std::vector<RandomSource> random(prompts.size(), RandomSource(1, "sample"));
  std::vector<std::int64_t> shapes;
  scheduler.next_step();
  for (std::size_t count = 1; count <= prompts.size(); ++count) {
    std::vector<Feed> feeds;
    for (std::size_t i = 0; i < count; ++i) {
      feeds.push_back({0, 2, 1, true});
    }
    GenerationInputs inputs(feeds, scheduler, random);
    REQUIRE(inputs.is_decode());
    inputs.fill_decode();
    const BatchShape shape = inputs.shape();
    const auto wanted = static_cast<std::int64_t>(count);
    REQUIRE(shape.num_rows >= wanted);
    REQUIRE((wanted < 8 || shape.num_rows < wanted + std::max<std::int64_t>(8, wanted / 8 + 1)));
    REQUIRE(shape.num_sequences == shape.num_rows);
    REQUIRE(shape.num_logit_rows == shape.num_rows);
    REQUIRE(shape.num_page_entries == shape.num_rows);  // a page each
    if (shapes.empty() || shapes.back() != shape.num_rows) {
      shapes.push_back(shape.num_rows);
    }
  }
  CHECK(std::ranges::is_sorted(shapes));
  CHECK(std::vector(shapes.begin(), shapes.begin() + 7) ==
        std::vector<std::int64_t>{1, 2, 4, 8, 16, 24, 32});
  CHECK(shapes.size() < 30);
  const auto is_decode = [&](const Feed& feed) {
    return GenerationInputs(std::vector<Feed>{feed}, scheduler, random).is_decode();
  };
  CHECK(is_decode({0, 2, 1, true}));
  CHECK_FALSE(is_decode({0, 1, 2, true}));
  CHECK_FALSE(is_decode({0, 1, 1, false}));
  CHECK_FALSE(is_decode({0, 2, 1, true, 0}));
  CHECK_FALSE(GenerationInputs({}, scheduler, random).is_decode());
}

}  // namespace fathom::trainer
