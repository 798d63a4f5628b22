#include "configs/load.h"

#include <google/protobuf/util/message_differencer.h>

#include <fstream>

#include "configs/resolve.h"
#include "configs/validate.h"
#include "configs/write.h"
#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_folder.h"

namespace fathom::config {
namespace {

using google::protobuf::util::MessageDifferencer;

class Files {
 public:
  std::filesystem::path write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = folder_.path() / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path;
  }
  std::filesystem::path path(const std::string& name) const { return folder_.path() / name; }
  // The message that load() throws, with the folder's path taken out.
  std::string error(const std::filesystem::path& path,
                    const std::vector<std::string>& overrides = {}) const {
    try {
      load(path, overrides);
    } catch (const ConfigError& failure) {
      std::string message = failure.message();
      const std::string prefix = folder_.path().string() + "/";
      for (std::size_t at = 0; (at = message.find(prefix)) != std::string::npos;) {
        message.erase(at, prefix.size());
      }
      return message;
    }
    return "none";
  }

 private:
  test::TemporaryFolder folder_;
};

TEST_CASE("a stored config is laid out anew and takes overrides") {
  RunConfig stored;
  stored.mutable_run()->set_threads(3);
  stored.mutable_run()->set_seed(9);
  stored.mutable_mesh()->set_tensor(4);
  const RunConfig found = load_stored(to_text(stored), "a checkpoint", {"mesh.pipeline=2"});
  CHECK(found.run().seed() == 9);
  CHECK(found.run().threads() == 0);
  CHECK(found.mesh().tensor() == 1);
  CHECK(found.mesh().pipeline() == 2);
  CHECK_THROWS_AS(load_stored("run {", "a checkpoint"), ConfigError);
  CHECK_THROWS_AS(load_stored("", "a checkpoint", {"mesh.tensr=2"}), ConfigError);
}

}  // namespace

TEST_CASE("a config is read, and defaults are those of the schema") {
  Files files;
  const RunConfig config = load(files.write("a.textproto", "train { steps: 5 } # comment\n"));
  CHECK(config.train().steps() == 5);
  CHECK(config.optimizer().adamw().beta2() == 0.95);
  CHECK(config.data().shuffle());
  CHECK(config.numerics().mode() == Numerics::EXACT);
}

TEST_CASE(
    "problems in a file come with line, column and the nearest field, all unknown ones at once") {
  Files files;
  const auto path = files.write("a.textproto",
                                "model {\n  hiden_size: 3\n  moe { topk: 2 }\n}\n"
                                "optimiser { lr: 1 }\n");
  CHECK(files.error(path, {"mesh.tensr=2"}) ==
        "4 problems with the config:\n"
        "  a.textproto:2:13: no field \"hiden_size\" in Model; did you mean \"hidden_size\"?\n"
        "  a.textproto:3:13: no field \"topk\" in MixtureOfExperts; did you mean \"top_k\"?\n"
        "  a.textproto:5:11: no field \"optimiser\" in RunConfig; did you mean \"optimizer\"?\n"
        "  --set mesh.tensr=2: no field \"tensr\" in Mesh; did you mean \"tensor\"?");
}

TEST_CASE("wrong values in a file come with line and column") {
  Files files;
  const auto error = [&](const std::string& text) {
    return files.error(files.write("a.textproto", text));
  };
  CHECK(error("mesh { tensor: abc }") == "a.textproto:1:16: Expected integer, got: abc");
  CHECK(error("run {\n device: GPU }") ==
        "a.textproto:2:14: device has no value \"GPU\"; one of CPU, CUDA");
  CHECK(error("mesh { tensor: 1 tensor: 2 }").find("specified multiple times") !=
        std::string::npos);
  CHECK(error("mesh { tensor: 1") == "a.textproto:1:17: Expected identifier, got: ");
}

TEST_CASE("files that are no config are refused") {
  Files files;
  CHECK(files.error(files.path("none.textproto")) == "none.textproto: no such file");
  CHECK(files.error(files.path("")) != "none");
  CHECK(files.error(files.write("big.textproto", std::string(1'000'001, '#'))) ==
        "big.textproto: 1000001 bytes, a config has at most 1000000");
  std::string nested;
  for (int i = 0; i < 10000; ++i) {
    nested += "model { ";
  }
  CHECK(files.error(files.write("deep.textproto", nested)) != "none");
  std::string unknown;
  for (int i = 0; i < 10000; ++i) {
    unknown += "unknown { ";
  }
  CHECK(files.error(files.write("deep_unknown.textproto", unknown)) != "none");
}

TEST_CASE("model_from is relative to its file, and the file's own model overrides it") {
  Files files;
  files.write("models/m.textproto", "hidden_size: 8 num_layers: 2 moe { top_k: 2 num_experts: 4 }");
  files.write("models/other.textproto", "hidden_size: 16");
  const auto path =
      files.write("runs/a.textproto",
                  "model_from: \"../models/m.textproto\" model { num_layers: 3 moe { top_k: 1 } }");
  const RunConfig config = load(path);
  CHECK(config.model().hidden_size() == 8);
  CHECK(config.model().num_layers() == 3);
  CHECK(config.model().moe().top_k() == 1);
  CHECK(config.model().moe().num_experts() == 4);
  CHECK_FALSE(config.has_model_from());

  CHECK(load(path, {"model.hidden_size=9"}).model().hidden_size() == 9);
  const std::string other = files.path("models/other.textproto").string();
  CHECK(load(path, {"model.hidden_size=9", "model_from=" + other}).model().hidden_size() == 9);
  CHECK(load(path, {"model_from=" + other}).model().hidden_size() == 16);
}

TEST_CASE("data.chat_from is relative to its file, and the file's own template overrides it") {
  Files files;
  files.write("chat/c.textproto", "user: \"U\" assistant: \"A\"");
  const auto path = files.write("runs/a.textproto",
                                "data { chat_from: \"../chat/c.textproto\" chat { user: \"V\" } }");
  const RunConfig config = load(path);
  CHECK(config.data().chat().user() == "V");
  CHECK(config.data().chat().assistant() == "A");
  CHECK_FALSE(config.data().has_chat_from());
  const std::string other = files.write("chat/d.textproto", "assistant: \"B\"").string();
  CHECK(load(path, {"data.chat_from=" + other}).data().chat().assistant() == "B");
  CHECK(files.error(files.write("b.textproto", "data { chat_from: \"x.textproto\" }")) ==
        "x.textproto: no such file");
}

TEST_CASE("problems in the model's file name that file") {
  Files files;
  files.write("m.textproto", "hiden_size: 8");
  CHECK(files.error(files.write("a.textproto", "model_from: \"m.textproto\"")) ==
        "m.textproto:1:11: no field \"hiden_size\" in Model; did you mean \"hidden_size\"?");
  CHECK(files.error(files.write("a.textproto", "model_from: \"x.textproto\"")) ==
        "x.textproto: no such file");
}

TEST_CASE("a written config reads back to the same message") {
  Files files;
  RunConfig config = load(test::source_path("configs/runs/tiny.textproto"),
                          {"optimizer.lr=0.1", "train.time_limit=1e-300",
                           "evaluation.prompts=\"q\\\" \\303\\251 \\001\"",
                           "mesh.layers_per_stage=[1, 3]", "run.seed=18446744073709551615"});
  resolve(config, {.world_size = 4, .ranks_per_node = 4, .cores_per_node = 8});
  const RunConfig again = load(files.write("config.textproto", to_text(config)));
  CHECK(MessageDifferencer::Equals(again, config));
}

TEST_CASE("the configs that come with the program are valid on the ranks they are meant for") {
  const std::string runs = test::source_path("configs/runs/");
  for (const auto& [name, world_size] : {std::pair{"quickstart", 4}, std::pair{"tiny", 8}}) {
    RunConfig config = load(runs + name + ".textproto");
    resolve(config, {.world_size = world_size});
    CHECK(find_problems(config, world_size).empty());
  }
}

}  // namespace fathom::config
