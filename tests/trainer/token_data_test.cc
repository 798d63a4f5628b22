#include "trainer/token_data.h"

#include <fstream>
#include <string>
#include <vector>

#include "configs/load.h"
#include "configs/resolve.h"
#include "core/error.h"
#include "data/tokenize.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_folder.h"

namespace fathom::trainer {
namespace {

// Shards of two documents, and the tokenizer that made them: a token a byte, and `added` from 256.
class Shards {
 public:
  explicit Shards(const std::vector<std::string>& added) {
    const data::Tokenizer tokenizer = test::byte_tokenizer(added);
    tokenizer.save(path("t.json"));
    std::ofstream(path("a.jsonl")) << "{\"text\": \"to be\"}\n{\"text\": \"or not\"}\n";
    data::write_token_shards(
        tokenizer, {.files = {path("a.jsonl")}, .output_prefix = path("a"), .text = {}}, {});
  }

  RunSources open(const std::vector<std::string>& more) const {
    std::vector<std::string> overrides = {
        "data.train[0].path=" + path("a"), "data.validation[0]=" + path("a"),
        "data.tokenizer=" + path("t.json"), "train.sequence_length=4", "data.shuffle=false"};
    overrides.insert(overrides.end(), more.begin(), more.end());
    config::RunConfig config =
        config::load(test::source_path("configs/runs/tiny.textproto"), overrides);
    config::resolve(config, {});
    return open_token_data(config);
  }

 private:
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }

  test::TemporaryFolder folder_;
};

const std::string kBegin = "data.document_start=BOS";

TEST_CASE("The start of a document stands in training and held-out text and before prompts") {
  const Shards shards({"<|begin_of_sentence|>", "<|end_of_sentence|>"});
  const RunSources plain = shards.open({});
  const RunSources begun = shards.open({kBegin});
  CHECK(plain.encode_prompt("a") == std::vector<std::int32_t>{'a'});
  CHECK(begun.encode_prompt("a") == std::vector<std::int32_t>{256, 'a'});
  const auto first_tokens = [](const data::BatchSource& source) {
    data::MicroBatch batch;
    source.read(0, 1, batch);
    return batch.tokens;
  };
  using Tokens = std::vector<std::int32_t>;
  CHECK(first_tokens(*plain.training) == Tokens{'t', 'o', ' ', 'b'});
  CHECK(first_tokens(*begun.training) == Tokens{256, 't', 'o', ' '});
  CHECK(first_tokens(*plain.held_out) == Tokens{257, 't', 'o', ' '});
  CHECK(first_tokens(*begun.held_out) == Tokens{257, 256, 't', 'o'});
}

TEST_CASE("A begin of sentence that the tokenizer does not have is refused, and its field named") {
  const Shards shards({"<|end_of_sentence|>"});
  CHECK_NOTHROW(shards.open({}));
  CHECK_THROWS_WITH(shards.open({kBegin}), Catch::Contains("data.document_start is BOS"));
}

}  // namespace
}  // namespace fathom::trainer
