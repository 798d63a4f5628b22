#include <filesystem>
#include <string>
#include <vector>

#include "configs/load.h"
#include "configs/resolve.h"
#include "configs/validate.h"
#include "core/file.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_folder.h"

namespace fathom::config {
namespace {

// The blocks of a document that are configs.
std::vector<std::string> configs_of(const std::string& document) {
  const std::string begin = "```text\n";
  const std::string text = read_file(test::source_path(document));
  std::vector<std::string> configs;
  for (std::size_t at = text.find(begin); at != std::string::npos; at = text.find(begin, at + 1)) {
    const std::size_t first = at + begin.size();
    configs.push_back(text.substr(first, text.find("```", first) - first));
  }
  return configs;
}

}  // namespace

TEST_CASE("the config that the document on reinforcement shows is whole") {
  const test::TemporaryFolder folder;
  std::filesystem::create_directory_symlink(test::source_path("configs"),
                                            folder.path() / "configs");
  const std::vector<std::string> configs = configs_of("docs/reinforcement.md");
  REQUIRE(configs.size() == 1);
  write_file_atomically(folder.path() / "sort.textproto", configs[0]);
  RunConfig config = load(folder.path() / "sort.textproto");
  resolve(config, {});
  CHECK(find_problems(config, 1, Use::kReinforcement) == std::vector<std::string>());
}

TEST_CASE("the config that the document on configuration shows for fine-tuning is whole") {
  const test::TemporaryFolder folder;
  for (const std::string name : {"models", "chat"}) {
    std::filesystem::create_directory_symlink(test::source_path("configs/" + name),
                                              folder.path() / name);
  }
  std::filesystem::create_directory(folder.path() / "runs");
  const std::vector<std::string> configs = configs_of("docs/configuration.md");
  REQUIRE(configs.size() == 2);  // the first is a learning rate alone
  write_file_atomically(folder.path() / "runs" / "chat.textproto", configs[1]);
  RunConfig config = load(folder.path() / "runs" / "chat.textproto");
  resolve(config, {});
  CHECK(find_problems(config, 1, Use::kFineTuning) == std::vector<std::string>());
}

}  // namespace fathom::config
