// What --dry_run announces, against what a run then holds, sends and counts.
#include "trainer/rank_plan.h"

#include <cmath>

#include "configs/load.h"
#include "configs/resolve.h"
#include "core/rng.h"
#include "model/factory.h"
#include "optim/factory.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"
#include "tests/support/run_ranks.h"
#include "tests/support/tiny_run.h"
#include "trainer/factory.h"
#include "trainer/generation/generator.h"
#include "trainer/generation_plan.h"
#include "trainer/run_plan.h"

using namespace fathom;
using namespace fathom::testing;

namespace {

config::RunConfig tiny_config(const std::vector<std::string>& overrides) {
  std::vector<std::string> all = {"model.moe.forced_balance=true", "mesh.assumed_imbalance=1",
                                  "model.hidden_size=64", "train.sequence_length=64",
                                  "train.global_batch_size=16"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  config::RunConfig config = config::load(test::source_path("configs/runs/tiny.textproto"), all);
  config::resolve(config, {.world_size = 0, .ranks_per_node = 1, .cores_per_node = 1});
  return config;
}

struct Measured {
  std::int64_t peak_bytes = 0;
  std::int64_t reserved_after_two_steps = 0;
  std::int64_t reserved_at_end = 0;
  std::map<std::string, std::int64_t> bytes_sent;
};

// Four steps of the real thing.
std::vector<Measured> measure(const config::RunConfig& config) {
  const parallel::MeshShape shape = trainer::make_mesh_shape(config.mesh());
  std::vector<Measured> measured(static_cast<std::size_t>(shape.world_size()));
  const int depths = static_cast<int>(config.model().mtp_depth()) + 1;
  TinyBatch batch;
  batch.num_sequences = config.train().global_batch_size();
  batch.sequence_length = config.train().sequence_length();
  const RandomSource random(1, "tokens");
  for (std::int64_t i = 0; i < batch.num_sequences * batch.sequence_length * (depths + 1); ++i) {
    const auto token = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(i), 512));
    if (i < batch.num_sequences * batch.sequence_length) {
      batch.tokens.push_back(token);
    } else {
      batch.targets.push_back(token);
      batch.masks.push_back(1.0F);
    }
  }
  test::run_ranks(shape.world_size(), [&](parallel::Communicator& world, Stream& stream) {
    Layout layout;
    layout.mesh = shape;
    layout.pipeline = trainer::make_pipeline_options(config);
    layout.micro_batch_size = static_cast<int>(config.train().micro_batch_size());
    layout.recompute = trainer::make_recompute_options(config.train().recompute());
    TinyRun run(model::make_model_options(config), layout, world, stream);
    run.model().initialize(1);
    const auto optimizer =
        optim::make_optimizer(config.optimizer(), run.model().parameters(), stream);
    trainer::StepOptions options;
    options.learning_rate = 1e-3;
    Measured& mine = measured[static_cast<std::size_t>(world.rank())];
    for (int step = 0; step < 4; ++step) {
      mine.bytes_sent = run.step(batch, *optimizer, options, 0.3).bytes_sent;
      if (step == 1) {
        mine.reserved_after_two_steps = stream.allocator()->bytes_reserved();
      }
    }
    mine.reserved_at_end = stream.allocator()->bytes_reserved();
    mine.peak_bytes = stream.allocator()->peak_bytes();
  });
  return measured;
}

// Of each rank, between two steps of sampling completions of the longest sequences there can be.
struct SamplingBytes {
  std::int64_t more = 0;  // than before
  std::int64_t all = 0;
};
std::vector<SamplingBytes> bytes_of_sampling(const config::RunConfig& config) {
  const parallel::MeshShape shape = trainer::make_mesh_shape(config.mesh());
  trainer::GenerationOptions options;
  options.max_new_tokens = config.rollout().max_new_tokens();
  options.max_sequences = config.rollout().max_sequences();
  options.cache_tokens = config.rollout().cache_tokens();
  options.cache = trainer::make_cache_form(config);
  const std::int64_t prompt_size = config.train().sequence_length() + 1 - options.max_new_tokens;
  std::vector<trainer::Prompt> prompts;
  for (std::int64_t i = 0; i < config.grpo().prompts_per_step() * config.grpo().group_size(); ++i) {
    prompts.push_back({concat(i), 0, {}});
    prompts.back().tokens.assign(static_cast<std::size_t>(prompt_size), 1);
  }
  std::vector<SamplingBytes> held(static_cast<std::size_t>(shape.world_size()));
  test::run_ranks(shape.world_size(), [&](parallel::Communicator& world, Stream& stream) {
    Layout layout;
    layout.mesh = shape;
    layout.pipeline = trainer::make_pipeline_options(config);
    TinyRun run(model::make_model_options(config), layout, world, stream);
    run.model().initialize(1);
    const auto optimizer =
        optim::make_optimizer(config.optimizer(), run.model().parameters(), stream);
    const std::int64_t before = stream.allocator()->bytes_in_use();
    trainer::GenerationEvents events;
    events.step = [&](std::int64_t, const std::vector<trainer::Completion>&) {
      const std::int64_t now = stream.allocator()->bytes_in_use();
      held[static_cast<std::size_t>(world.rank())] = {now - before, now};
    };
    trainer::Generator(run.model(), run.mesh(), stream).generate(prompts, options, events);
  });
  return held;
}

double relative_difference(std::int64_t a, std::int64_t b) {
  return std::abs(static_cast<double>(a - b)) / static_cast<double>(b);
}

}  // namespace

TEST_CASE(
    "The announced peak is within 5% of the real one, and the traffic exact, on every kind of "
    "layout") {
  const std::vector<std::vector<std::string>> meshes = {
      {"mesh.data=1"},
      {"mesh.data=2"},
      {"mesh.data=2", "mesh.expert=2"},
      {"mesh.data=2", "train.recompute.experts=true", "mesh.expert=2"},
      {"mesh.data=1", "mesh.tensor=2"},
      {"mesh.data=1", "mesh.pipeline=2"},
      {"mesh.data=2", "mesh.pipeline=2", "mesh.expert=2"},
      {"mesh.data=1", "mesh.pipeline=2", "mesh.tensor=2", "mesh.expert=2"}};
  for (const auto& mesh : meshes) {
    const config::RunConfig config = tiny_config(mesh);
    const std::vector<trainer::RankPlan> plans = trainer::plan_ranks(config);
    const std::vector<Measured> measured = measure(config);
    for (const trainer::RankPlan& plan : plans) {
      const Measured& real = measured[static_cast<std::size_t>(plan.rank)];
      INFO(mesh.back() << ", rank " << plan.rank << ": announced " << plan.peak_bytes << ", real "
                       << real.peak_bytes);
      // Beside EXACT's partial products, which the plan does not count; small models show them.
      constexpr std::int64_t kPartialProducts = 65536;
      CHECK(plan.peak_bytes <= real.peak_bytes);
      CHECK(relative_difference(plan.peak_bytes, real.peak_bytes - kPartialProducts) < 0.05);
      for (const auto& [axis, bytes] : plan.bytes_sent) {
        INFO(axis);
        if (axis != "expert") {  // which rows leave depends on the routing
          CHECK(bytes == real.bytes_sent.at(axis));
        }
      }
    }
  }
}

TEST_CASE(
    "EXACT needs at most 4 bytes a parameter more than FAST, and blocks of partial products") {
  for (const auto& mesh : std::vector<std::vector<std::string>>{
           {"mesh.data=1", "train.micro_batch_size=8"},
           {"mesh.data=2", "mesh.expert=2", "train.micro_batch_size=4"},
           {"mesh.data=1", "mesh.tensor=2", "train.micro_batch_size=8"}}) {
    std::vector<std::string> fast = mesh;
    fast.emplace_back("numerics.mode=FAST");
    const std::vector<Measured> of_exact = measure(tiny_config(mesh));
    const std::vector<Measured> of_fast = measure(tiny_config(fast));
    const trainer::RankPlan plan = trainer::plan_ranks(tiny_config(mesh)).front();
    const trainer::RankPlan fast_plan = trainer::plan_ranks(tiny_config(fast)).front();
    // Paddings of the buffers, and where the parts of each expert begin.
    constexpr std::int64_t kSmall = 32768;
    CHECK(plan.peak_bytes - fast_plan.peak_bytes <= 4 * plan.num_parameters + kSmall);
    // Blocks of partial products: up to 65,536 elements for each of two levels of the tree and the
    // leaf. At most as many as the largest product of this model has.
    constexpr std::int64_t kBlocks = 3 * 256 * 512 * 4;
    for (std::size_t rank = 0; rank < of_exact.size(); ++rank) {
      INFO(mesh.back() << ", rank " << rank);
      CHECK(of_exact[rank].peak_bytes - of_fast[rank].peak_bytes <=
            4 * plan.num_parameters + kSmall + kBlocks);
    }
  }
}

TEST_CASE("A steady step takes no memory from the system") {
  for (const Measured& rank :
       measure(tiny_config({"mesh.data=2", "mesh.pipeline=2", "mesh.expert=2"}))) {
    CHECK(rank.reserved_at_end == rank.reserved_after_two_steps);
  }
}

TEST_CASE("Each kind of recomputation saves the bytes that the plan announces") {
  const auto peak = [](const std::vector<std::string>& overrides) {
    const config::RunConfig config = tiny_config(overrides);
    return std::pair(trainer::plan_ranks(config).front().peak_bytes,
                     measure(config).front().peak_bytes);
  };
  const auto [plan_without, real_without] = peak({"mesh.data=1", "train.micro_batch_size=8"});
  for (const char* kind : {"norms", "swiglu", "mla_up_projections", "experts", "layers"}) {
    INFO(kind);
    const auto [plan, real] = peak(
        {"mesh.data=1", "train.micro_batch_size=8", concat("train.recompute.", kind, "=true")});
    CHECK(plan < plan_without);
    CHECK(real < real_without);
    CHECK(std::abs(static_cast<double>((real_without - real) - (plan_without - plan))) <
          0.05 * static_cast<double>(real_without));
  }
}

TEST_CASE("On CUDA the plan counts what attention's deterministic backward takes for itself") {
  const auto peak = [](const char* sequence_length, const char* deterministic) {
    const config::RunConfig config = tiny_config(
        {"mesh.data=1", "run.device=CUDA", "train.micro_batch_size=1", "model.max_position=65536",
         sequence_length, deterministic, "train.recompute.layers=true"});
    return trainer::plan_ranks(config).front().peak_bytes;
  };
  const auto difference = [&](const char* sequence_length) {
    return peak(sequence_length, "numerics.deterministic=true") -
           peak(sequence_length, "numerics.deterministic=false");
  };
  // 2 bytes for each of 4 heads, each query and each key; it is nearly all of a peak.
  constexpr std::int64_t kScratch = std::int64_t{2} * 4 * 16384 * 16384;
  CHECK(difference("train.sequence_length=16384") > kScratch / 2);
  CHECK(difference("train.sequence_length=16384") <= kScratch);
  CHECK(difference("train.sequence_length=65536") == 0);  // 32 GiB: that goes to the own kernel
}

TEST_CASE("Sampling holds the bytes that the plan announces") {
  for (const auto& mesh : std::vector<std::vector<std::string>>{
           {"mesh.data=1"},
           {"mesh.data=2", "mesh.expert=2"},
           {"mesh.data=1", "mesh.tensor=2"},
           {"mesh.data=1", "mesh.pipeline=2", "mesh.tensor=2", "mesh.expert=2"}}) {
    for (const char* mode : {"EXACT", "FAST"}) {
      std::vector<std::string> overrides = mesh;
      overrides.insert(overrides.end(),
                       {concat("numerics.mode=", mode), "train.sequence_length=128",
                        "model.max_position=256", "grpo.prompts_per_step=4", "grpo.group_size=4",
                        "rollout.max_new_tokens=8", "rollout.max_sequences=5"});
      const config::RunConfig config = tiny_config(overrides);
      const std::vector<SamplingBytes> held = bytes_of_sampling(config);
      const model::CacheForm form = trainer::make_cache_form(config);
      CHECK((form == model::CacheForm::kLatent) == (std::string_view(mode) == "FAST"));
      const std::vector<trainer::RankPlan> ranks = trainer::plan_ranks(config);
      const std::vector<trainer::GenerationPlan> plans = trainer::plan_generation(config);
      REQUIRE(ranks.size() == plans.size());
      for (std::size_t i = 0; i < plans.size(); ++i) {
        CHECK(plans[i].num_tokens == 5 * 128);
        const std::int64_t announced = plans[i].cache_bytes(form) + plans[i].weight_bytes(form);
        const SamplingBytes real = held[static_cast<std::size_t>(plans[i].rank)];
        INFO(mesh.back() << ", " << mode << ", rank " << plans[i].rank << ": announced "
                         << announced << ", real " << real.more << " of " << real.all);
        CHECK(relative_difference(announced, real.more) < 0.01);
        CHECK(relative_difference(announced + ranks[i].held_bytes, real.all) < 0.01);
      }
    }
  }
}

TEST_CASE(
    "The peak of a GRPO run is that of sampling where its cache takes more than activations") {
  const std::vector<std::string> grpo = {
      "mesh.data=1",        "train.sequence_length=128", "model.max_position=256",
      "grpo.group_size=8",  "grpo.prompts_per_step=8",   "rollout.max_new_tokens=8",
      "numerics.mode=EXACT"};
  const auto with = [&](const std::string& more) {
    std::vector<std::string> overrides = grpo;
    overrides.push_back(more);
    return tiny_config(overrides);
  };
  const std::string large = trainer::describe_plan(with("rollout.cache_tokens=1000000"));
  CHECK_THAT(large, Catch::Contains(", in sampling\n"));
  CHECK_THAT(large, Catch::Contains(", the activations of a step of sampling, EXACT's partial"));
  CHECK_THAT(trainer::describe_plan(with("rollout.cache_tokens=128")),
             Catch::Contains(", in training\n"));
  CHECK_THAT(trainer::describe_plan(tiny_config({"mesh.data=1"})), !Catch::Contains("sampling"));

  // The reference policy: a copy of the weights, beside all else.
  const trainer::RankPlan without = trainer::plan_ranks(with("grpo.objective.kl_weight=0")).front();
  const trainer::RankPlan plan = trainer::plan_ranks(with("grpo.objective.kl_weight=0.1")).front();
  CHECK(without.reference_bytes == 0);
  CHECK(plan.reference_bytes == plan.value_bytes);
  CHECK(plan.held_bytes - without.held_bytes == plan.reference_bytes);
  CHECK(plan.peak_bytes - without.peak_bytes == plan.reference_bytes);
}

TEST_CASE("The busiest rank's experts get what mesh.assumed_imbalance says") {
  const auto peak = [](const char* imbalance) {
    return trainer::plan_ranks(tiny_config({"mesh.data=2", "mesh.expert=2", imbalance}))
        .front()
        .peak_bytes;
  };
  const std::int64_t balanced = peak("mesh.assumed_imbalance=1");
  const std::int64_t more = peak("mesh.assumed_imbalance=1.5");
  const std::int64_t most = peak("mesh.assumed_imbalance=2");
  CHECK(balanced < more);
  CHECK(more < most);
}

TEST_CASE(
    "The plan shows each pipeline rank's layers and work, and what the pipeline makes of it") {
  config::RunConfig config = tiny_config({"mesh.pipeline=16", "mesh.data=1", "mesh.expert=1",
                                          "train.sequence_length=4096", "numerics.mode=FAST"});
  *config.mutable_model() =
      config::load_model(test::source_path("configs/models/deepseek-v3.textproto"));
  const trainer::PipelinePlan v3 = trainer::plan_pipeline(config);
  CHECK(v3.layers.front() == std::vector{4});
  CHECK(v3.layers.back() == std::vector{1});
  // The weights that a token meets, by hand, and its scores: tests/model/pipeline_cut_test.cc.
  const double layer = 270991360.0 + 398196736.0;
  const double last = 2 * layer + 2 * 926679040.0 + 102760448.0;
  CHECK(v3.work.back() == Approx(16 * last / (60 * layer + last)).epsilon(1e-3));
  CHECK(v3.num_micro_batches == 16);
  CHECK(v3.busy_share < 1 / v3.work.back());

  // Two equal stages, four micro-batches: five times what one takes, of which four are work.
  const config::RunConfig even =
      tiny_config({"mesh.pipeline=2", "mesh.data=1", "model.num_layers=4", "model.mtp_depth=0",
                   "model.num_dense_layers=0", "model.vocab_size=4", "train.global_batch_size=4",
                   "train.micro_batch_size=1", "mesh.layers_per_stage=[2, 2]"});
  const trainer::PipelinePlan halves = trainer::plan_pipeline(even);
  CHECK(halves.work[0] == Approx(1.0).epsilon(0.01));
  CHECK(halves.busy_share == Approx(4.0 / 5.0).epsilon(0.01));
  const std::string text = trainer::describe_plan(
      tiny_config({"mesh.data=1", "mesh.pipeline=2", "model.num_layers=4", "mesh.stages_per_rank=2",
                   "mesh.layers_per_stage=[1, 2, 1, 0]"}));
  CHECK_THAT(text, Catch::Contains(" 1+1 ") && Catch::Contains(" 2+0 ") &&
                       Catch::Contains("16 micro-batches a step"));
  CHECK_THAT(trainer::describe_plan(tiny_config({"mesh.data=1"})), !Catch::Contains("pipeline: "));
}

TEST_CASE("The plan of V3's cache: latents take a 57th, whatever the cache holds") {
  config::RunConfig config = tiny_config({"rollout.max_new_tokens=8", "rollout.cache_tokens=6400"});
  *config.mutable_model() =
      config::load_model(test::source_path("configs/models/deepseek-v3.textproto"));
  const trainer::GenerationPlan plan = trainer::plan_generation(config).front();
  CHECK(plan.num_tokens == 6400);
  CHECK(plan.latent_bytes == std::int64_t{61} * 6400 * (512 + 64) * 4);
  CHECK(plan.expanded_bytes == 57 * plan.latent_bytes);
  CHECK_THAT(trainer::describe_plan(config), Catch::Contains("57.0"));
}

TEST_CASE("The published models have their published sizes, to the unit") {
  const auto count = [](const std::string& name) {
    return trainer::count_parameters(
        config::load_model(test::source_path("configs/models/" + name + ".textproto")));
  };
  CHECK(count("deepseek-v2-lite").main == 15'706'484'224);
  CHECK(count("deepseek-v2").main == 235'741'434'880);
  CHECK(count("deepseek-v3").main == 671'026'404'352);
  // The published figure counts the module's 256 selection biases too, which are no parameters.
  CHECK(count("deepseek-v3").mtp + 256 == 11'610'068'224);
}
