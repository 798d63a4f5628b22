#include "trainer/step_trace.h"

#include <array>
#include <functional>
#include <nlohmann/json.hpp>

#include "configs/load.h"
#include "configs/resolve.h"
#include "core/error.h"
#include "core/file.h"
#include "model/factory.h"
#include "optim/factory.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"
#include "tests/support/run_ranks.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_run.h"
#include "trainer/metrics.h"

using namespace fathom;
using namespace fathom::testing;
using trainer::StepTrace;

namespace {

using Change = std::function<void(model::PipelinedModel&)>;

// The trace of initial weights and gradients of zero, whose bits are the same in every layout.
// `change` is called between the gradients and the values.
std::string trace_on(const parallel::MeshShape& mesh, const std::filesystem::path& folder,
                     const std::string& elements_of = "", const Change& change = {}) {
  config::RunConfig config = config::load(test::source_path("configs/runs/tiny.textproto"), {});
  config::resolve(config, {.world_size = 0, .ranks_per_node = 1, .cores_per_node = 1});
  test::run_ranks(mesh.world_size(), [&](parallel::Communicator& world, Stream& stream) {
    Layout layout;
    layout.mesh = mesh;
    TinyRun run(model::make_model_options(config.model()), layout, world, stream);
    run.model().initialize(1);
    const auto optimizer =
        optim::make_optimizer(config.optimizer(), run.model().parameters(), stream);
    StepTrace trace({folder, elements_of.empty() ? 0 : 1, elements_of}, std::nullopt, run.model(),
                    *optimizer, world, stream);
    run.model().parameters().reduce_gradients(stream);
    trace.gradients(1);
    if (change) {
      change(run.model());
    }
    trace.values(1);
  });
  return read_file(folder / "trace.jsonl");
}

// Adds 1 to the first element of every array of `key` on ranks that own it.
Change change_of(const std::string& key) {
  return [key](model::PipelinedModel& model) {
    for (parallel::ParameterGroup& group : model.parameters().groups()) {
      for (const parallel::ParameterRange& range : group.shard_ranges) {
        if (range.parameter->pieces.front().key == key && range.begin == 0) {
          group.value_shard.mutable_data<float>()[range.shard_offset] += 1.0F;
        }
      }
    }
  };
}

const std::vector<parallel::MeshShape> kLayouts = {
    {1, 2, 1, 1}, {1, 1, 2, 1}, {2, 1, 1, 1}, {1, 2, 2, 4}, {2, 2, 1, 2}};

}  // namespace

TEST_CASE("the same bits have the same trace in every layout") {
  const test::TemporaryFolder folder;
  const std::string expected = trace_on({}, folder.path());
  const auto line = nlohmann::ordered_json::parse(expected);
  // Every tensor but the three decoder layers' and MTP's selection biases has a gradient.
  CHECK(line["step"] == 1);
  CHECK(line["values"].size() == line["gradients"].size() + 4);
  CHECK(line["values"].begin().key() == "model.embed_tokens.weight");
  CHECK((--line["values"].end()).key() == "model.layers.4.shared_head.norm.weight");
  for (const parallel::MeshShape& mesh : kLayouts) {
    CAPTURE(mesh.pipeline, mesh.data, mesh.tensor, mesh.expert);
    CHECK(trace_on(mesh, folder.path()) == expected);
  }
}

TEST_CASE("a changed element shows in the hash of its tensor alone") {
  const test::TemporaryFolder folder;
  const std::string key = "model.layers.2.mlp.shared_experts.down_proj.weight";
  const auto before = nlohmann::json::parse(trace_on({}, folder.path()));
  const auto after =
      nlohmann::json::parse(trace_on({1, 2, 1, 2}, folder.path(), "", change_of(key)));
  const auto patch = nlohmann::json::diff(before, after);
  REQUIRE(patch.size() == 1);
  CHECK(patch[0]["path"] == "/values/" + key);
}

TEST_CASE("elements are written once, by the rank that owns them") {
  const test::TemporaryFolder folder;
  const std::string key = "model.layers.1.mlp.experts.5.up_proj.weight";
  trace_on({1, 2, 2, 2}, folder.path(), key);
  std::map<std::string, std::map<std::array<std::int64_t, 2>, std::string>> elements;
  std::size_t num_elements = 0;
  for (int rank = 0; rank < 4; ++rank) {
    std::istringstream lines(
        read_file(folder.path() / "trace" / concat("rank-0000", rank, ".jsonl")));
    for (std::string text; std::getline(lines, text);) {
      const auto line = nlohmann::json::parse(text);
      std::int64_t column = line["column"];
      for (const std::string bits : line["bits"]) {
        elements[line["of"]][{line["row"], column++}] = bits;
        ++num_elements;
      }
    }
  }
  CHECK(elements["gradients"].size() == 16 * 32);
  CHECK(elements["values"].size() == 16 * 32);
  CHECK(num_elements == 2 * std::size_t{16 * 32});
  CHECK(elements["gradients"].begin()->second == "00000000");
  CHECK_THROWS_AS(trace_on({}, folder.path(), "model.layers.9.norm"), ConfigError);
}
