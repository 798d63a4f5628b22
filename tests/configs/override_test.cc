#include <string>

#include "configs/field_path.h"
#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "tests/support/catch.h"

namespace fathom::config {
namespace {

RunConfig applied(const std::vector<std::string>& overrides) {
  RunConfig config;
  for (const std::string& text : overrides) {
    CAPTURE(text);
    CHECK_FALSE(apply_override(config, text).has_value());
  }
  return config;
}

std::string problem(const std::string& text) {
  RunConfig config = applied({"data.train[0].path=a"});
  const std::string before = config.SerializeAsString();
  const auto message = apply_override(config, text);
  CHECK(config.SerializeAsString() == before);  // a failed override changes nothing
  return message.value_or("none");
}

}  // namespace

TEST_CASE("an override sets a field of any depth and type") {
  const RunConfig config =
      applied({"optimizer.lr=3e-4", "mesh.tensor=4", "run.device=CUDA", "data.shuffle=false",
               "run.seed=18446744073709551615", "optimizer.adamw.beta2=0.99",
               "model.moe.score_function=SOFTMAX"});
  CHECK(config.optimizer().lr() == 3e-4);
  CHECK(config.mesh().tensor() == 4);
  CHECK(config.run().device() == Run::CUDA);
  CHECK_FALSE(config.data().shuffle());
  CHECK(config.run().seed() == 18446744073709551615ULL);
  CHECK(config.optimizer().adamw().beta2() == 0.99);
  CHECK(config.model().moe().score_function() == MixtureOfExperts::SOFTMAX);
}

TEST_CASE("the last of two overrides of a field counts") {
  CHECK(applied({"mesh.tensor=4", "mesh.tensor=2"}).mesh().tensor() == 2);
}

TEST_CASE("strings need no quotes, and keep what is in them") {
  CHECK(applied({"run.directory=/a b/=c"}).run().directory() == "/a b/=c");
  CHECK(applied({"run.directory=\"x y\""}).run().directory() == "x y");
  CHECK(applied({R"(run.directory=a"b\n)"}).run().directory() == R"(a"b\n)");
  CHECK(applied({"run.directory="}).run().directory().empty());
  CHECK(applied({"evaluation.prompts=two\nlines \xc3\xa9"}).evaluation().prompts(0) ==
        "two\nlines \xc3\xa9");
}

TEST_CASE("a repeated field appends, takes an index, or is replaced by a list") {
  const RunConfig config = applied({"data.train={path: \"a\" weight: 3}", "data.train[1].path=b",
                                    "data.train[0].weight=2", "data.validation=v",
                                    "data.validation=w", "data.validation[0]=u"});
  REQUIRE(config.data().train_size() == 2);
  CHECK(config.data().train(0).path() == "a");
  CHECK(config.data().train(0).weight() == 2);
  CHECK(config.data().train(1).path() == "b");
  REQUIRE(config.data().validation_size() == 2);
  CHECK(config.data().validation(0) == "u");
  CHECK(config.data().validation(1) == "w");

  const RunConfig lists = applied(
      {"mesh.layers_per_stage=[1, 2, 3]", "mesh.layers_per_stage=[4]", "mesh.layers_per_stage=5",
       "data.train=[{path: \"a\"}, {path: \"b\"}]", "data.validation=v", "data.validation=[]"});
  REQUIRE(lists.mesh().layers_per_stage_size() == 2);
  CHECK(lists.mesh().layers_per_stage(0) == 4);
  CHECK(lists.mesh().layers_per_stage(1) == 5);
  CHECK(lists.data().train_size() == 2);
  CHECK(lists.data().validation_size() == 0);

  const RunConfig emptied =
      applied({"grpo.held_out={family: \"sorting\"}", "grpo.held_out=", "rollout.stop=a",
               "rollout.stop=b", "rollout.stop=", "mesh.layers_per_stage=3",
               "mesh.layers_per_stage=", "evaluation.prompts=a", "evaluation.prompts=\"\""});
  CHECK(emptied.grpo().held_out_size() == 0);
  CHECK(emptied.rollout().stop_size() == 0);
  CHECK(emptied.mesh().layers_per_stage_size() == 0);
  CHECK(emptied.evaluation().prompts_size() == 2);  // one of them is the empty text
}

TEST_CASE("a message in braces replaces the whole message") {
  const RunConfig config = applied({"optimizer.adamw.beta1=0.5", "optimizer.adamw={beta2: 0.9}"});
  CHECK_FALSE(config.optimizer().adamw().has_beta1());
  CHECK(config.optimizer().adamw().beta2() == 0.9);
}

TEST_CASE("a wrong override is answered with its path and what would be right") {
  CHECK(problem("optimizer.adam.beta2=1") ==
        "--set optimizer.adam.beta2=1: no field \"adam\" in Optimizer; did you mean \"adamw\"?");
  CHECK(problem("mesh.zzzzzz=1") ==
        "--set mesh.zzzzzz=1: no field \"zzzzzz\" in Mesh; it has pipeline, data, tensor, expert, "
        "stages_per_rank, layers_per_stage, group_elements, assumed_imbalance");
  CHECK(problem("mesh.tensor=abc") == "--set mesh.tensor=abc: Expected integer, got: abc");
  CHECK(problem("mesh.tensor=1 2") == "--set mesh.tensor=1 2: there is text after the value");
  CHECK(problem("mesh.tensor=") == "--set mesh.tensor=: Expected integer, got: ");
  CHECK(problem("mesh.tensor=1.5") == "--set mesh.tensor=1.5: Expected integer, got: 1.5");
  CHECK(problem("mesh.tensor=4294967296") ==
        "--set mesh.tensor=4294967296: Integer out of range (4294967296)");
  CHECK(problem("run.device=GPU") == "--set run.device=GPU: no value \"GPU\"; one of CPU, CUDA");
  CHECK(problem("mesh=3") ==
        "--set mesh=3: is a message: set one of its fields, or give it as {...}");
  CHECK(problem("mesh={tensr: 3}") ==
        "--set mesh={tensr: 3}: Message type \"fathom.config.Mesh\" has no field named \"tensr\".");
  CHECK(problem("mesh.tensor.x=3") == "--set mesh.tensor.x=3: \"tensor\" has no fields");
  CHECK(problem("mesh.tensor[0]=3") == "--set mesh.tensor[0]=3: \"tensor\" is not a list");
  CHECK(problem("data.train.path=a") ==
        "--set data.train.path=a: \"train\" is a list: write train[0]");
  CHECK(problem("data.train[2].path=a") ==
        "--set data.train[2].path=a: \"train\" has 1 elements, no [2]");
  CHECK(problem("mesh.layers_per_stage=[1] tensor: 2") ==
        "--set mesh.layers_per_stage=[1] tensor: 2: there is text after the value");
}

TEST_CASE("a malformed path is refused") {
  CHECK(problem("mesh.tensor") == "--set mesh.tensor: want path=value");
  for (const std::string path : {"", ".", "mesh.", "mesh..tensor", "data.train[.path",
                                 "data.train[].path", "data.train[-1].path", "data.train[0",
                                 "data.train[0]x.path", "data.train[99999999999].path", "[0]"}) {
    CAPTURE(path);
    CHECK(problem(path + "=1") == concat("--set ", path, "=1: \"", path, "\" is not a field path"));
  }
}

TEST_CASE("a value of ten thousand levels is refused, not overflowed on") {
  std::string nested;
  for (int i = 0; i < 10000; ++i) {
    nested += "{ a ";
  }
  RunConfig config;
  CHECK(apply_override(config, "mesh=" + nested).has_value());
  CHECK(apply_override(config, "run.directory=" + std::string(1 << 17, 'x')).has_value());
}

}  // namespace fathom::config
