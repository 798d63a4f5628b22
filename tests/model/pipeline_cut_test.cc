#include "model/pipeline_cut.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <string>

#include "core/error.h"
#include "core/rng.h"
#include "model/flops.h"
#include "tests/support/catch.h"
#include "tests/support/published_options.h"

namespace fathom::model {
namespace {

// Every way to deal out consecutive layers.
void for_each_cut(int num_layers, int num_stages, std::vector<int>& layers,
                  const std::function<void()>& visit) {
  if (num_stages == 1) {
    layers.push_back(num_layers);
    visit();
    layers.pop_back();
    return;
  }
  for (int mine = 0; mine <= num_layers; ++mine) {
    layers.push_back(mine);
    for_each_cut(num_layers - mine, num_stages - 1, layers, visit);
    layers.pop_back();
  }
}

double slowest_stage(const std::vector<int>& layers, const std::vector<double>& work,
                     double end_work) {
  auto layer = work.begin();
  double slowest = 0.0;
  for (std::size_t stage = 0; stage < layers.size(); ++stage) {
    const double mine = std::accumulate(layer, layer + layers[stage], 0.0);
    slowest = std::max(slowest, mine + (stage + 1 == layers.size() ? end_work : 0.0));
    layer += layers[stage];
  }
  return slowest;
}

ModelOptions v3() { return test::published_options("deepseek-v3"); }

std::vector<int> layers_of(const std::vector<StageOptions>& stages) {
  std::vector<int> layers;
  for (const StageOptions& stage : stages) {
    layers.push_back(stage.num_layers);
  }
  return layers;
}

}  // namespace

TEST_CASE("No other cut has a slowest stage with less work") {
  const RandomSource random(3, "work of layers");
  for (std::uint64_t draw = 0; draw < 60; ++draw) {
    const auto below = [&](std::uint64_t index, std::uint64_t limit) {
      return random.below(10 * draw + index, limit);
    };
    std::vector<double> work;
    for (std::uint64_t layer = 0; layer <= below(0, 6); ++layer) {
      work.push_back(static_cast<double>(below(1 + layer, 5)));
    }
    const auto end_work = static_cast<double>(below(8, 9));
    const int ranks = 1 + static_cast<int>(draw % 3);
    const int per_rank = 1 + static_cast<int>(draw % 2);
    double least = std::numeric_limits<double>::infinity();
    std::vector<int> layers;
    for_each_cut(static_cast<int>(work.size()), ranks * per_rank, layers,
                 [&] { least = std::min(least, slowest_stage(layers, work, end_work)); });
    const std::vector<int> chosen = balanced_layers(work, end_work, ranks, per_rank);
    INFO("draw " << draw);
    CHECK(std::ssize(chosen) == ranks * per_rank);
    CHECK(std::accumulate(chosen.begin(), chosen.end(), 0) == std::ssize(work));
    CHECK(slowest_stage(chosen, work, end_work) == least);
  }
}

TEST_CASE("Among cuts that are as fast, the even one, with fewer layers where more is kept") {
  const std::vector<double> four(4, 1.0);
  CHECK(balanced_layers(four, 0.0, 2, 1) == std::vector{2, 2});
  CHECK(balanced_layers(four, 0.0, 3, 1) == std::vector{1, 1, 2});
  // The last stage is the slowest whatever the others have.
  CHECK(balanced_layers(four, 3.0, 3, 1) == std::vector{2, 2, 0});
  CHECK(balanced_layers(std::vector<double>(6, 1.0), 10.0, 4, 1) == std::vector{2, 2, 2, 0});
  CHECK(balanced_layers(four, 1.5, 5, 1) == std::vector{1, 1, 1, 1, 0});
  // The second stage is on the rank that has the head.
  CHECK(balanced_layers(std::vector<double>(5, 1.0), 2.5, 2, 2) == std::vector{2, 1, 2, 0});
  // Layers of different work.
  CHECK(balanced_layers(std::vector{3.0, 1.0, 1.0, 1.0}, 0.0, 2, 1) == std::vector{1, 3});
}

TEST_CASE("V3 on 16 stages: the head and the MTP module weigh almost four layers") {
  PipelineOptions pipeline;
  pipeline.sequence_length = 4096;
  const std::vector<StageOptions> stages = cut_into_stages(v3(), pipeline, 16);
  std::vector<int> expected(15, 4);
  expected.push_back(1);
  CHECK(layers_of(stages) == expected);
  CHECK(stages[15].first_layer == 60);
  CHECK((stages[0].is_first && stages[15].is_last && !stages[7].is_first && !stages[7].is_last));

  // By hand, in weights a token meets: attention 1536 x (7168 + 24576) + 7168 x 576 + 512 x 32768 +
  // 16384 x 7168; experts 7168 x 256 + 9 x 3 x 7168 x 2048; dense 3 x 7168 x 18432; the scores of
  // 2,048 earlier tokens 2 x 128 x 2048 x 960 / 6; head 129280 x 7168; module 2 x 7168^2 more.
  const double attention = 48758784.0 + 4128768.0 + 16777216.0 + 117440512.0 + 83886080.0;
  const double experts = 1835008.0 + 396361728.0;
  const double head = 926679040.0;
  const std::vector<double> flops = stage_flops(v3(), stages, 4096);
  CHECK(flops[0] == 6 * (4 * attention + 3 * 396361728.0 + experts));
  CHECK(flops[1] == 6 * 4 * (attention + experts));
  CHECK(flops[15] == 6 * (2 * (attention + experts) + 2 * head + 102760448.0));
  CHECK(std::accumulate(flops.begin(), flops.end(), 0.0) == Approx(flops_per_token(v3(), 4096)));
}

TEST_CASE("Layers that are given stay, and must be all of them") {
  PipelineOptions pipeline;
  pipeline.layers_per_stage = {10, 20, 31, 0};
  CHECK(layers_of(cut_into_stages(v3(), pipeline, 4)) == pipeline.layers_per_stage);
  pipeline.stages_per_rank = 2;
  CHECK(layers_of(cut_into_stages(v3(), pipeline, 2)) == pipeline.layers_per_stage);
  CHECK_THROWS_AS(cut_into_stages(v3(), pipeline, 4), ConfigError);
  pipeline.layers_per_stage = {10, 20, 30, 0};
  CHECK_THROWS_AS(cut_into_stages(v3(), pipeline, 2), ConfigError);
}

}  // namespace fathom::model
