#include "trainer/chat_data.h"

#include <algorithm>
#include <string>
#include <vector>

#include "configs/load.h"
#include "core/file.h"
#include "data/chat_template.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_folder.h"

namespace fathom::trainer {
namespace {

using data::Conversation;
using data::Role;

// A template of configs/chat/ with a small tokenizer that is built like the model's.
struct Published {
  data::Tokenizer tokenizer;
  data::ChatTemplate chat;
};

Published published(const std::string& name, const std::string& tokenizer_name) {
  const test::TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "run.textproto";
  write_file_atomically(
      path,
      "data { chat_from: \"" + test::source_path("configs/chat/" + name + ".textproto") + "\" }");
  auto tokenizer = data::Tokenizer::load(
      test::source_path("tests/fixtures/tokenizer/shapes/" + tokenizer_name + ".json"));
  data::ChatTemplate chat(tokenizer, make_chat_markers(config::load(path)));
  return {std::move(tokenizer), std::move(chat)};
}

const Conversation kTwoTurns = {{Role::kSystem, "Be brief."},
                                {Role::kUser, "What is 漢字?"},
                                {Role::kAssistant, "It is a word."},
                                {Role::kUser, "2 + 2"},
                                {Role::kAssistant, "4"}};
const std::string kBos = "<｜begin▁of▁sentence｜>";
const std::string kEos = "<｜end▁of▁sentence｜>";

// Checks that conversation and prompt are what the published template makes of them, token by
// token.
void check(const Published& published, const std::string& conversation, const std::string& prompt) {
  data::Encoder encoder(published.tokenizer);
  const data::ChatTokens found = published.chat.encode(kTwoTurns, encoder);
  CHECK(published.tokenizer.decode(found.tokens) == conversation);
  CHECK(found.tokens == published.tokenizer.encode(conversation));
  CHECK(published.chat.encode_prompt("Who?", encoder) == published.tokenizer.encode(prompt));
}

TEST_CASE("DeepSeek-V2's chat template") {
  check(published("deepseek-v2", "deepseek-v2"),
        kBos + "Be brief.\n\nUser: What is 漢字?\n\nAssistant: It is a word." + kEos +
            "User: 2 + 2\n\nAssistant: 4" + kEos,
        kBos + "User: Who?\n\nAssistant:");
}

TEST_CASE("DeepSeek-V3's chat template") {
  check(published("deepseek-v3", "deepseek-v3"),
        kBos + "Be brief.<｜User｜>What is 漢字?<｜Assistant｜>It is a word." + kEos +
            "<｜User｜>2 + 2<｜Assistant｜>4" + kEos,
        kBos + "<｜User｜>Who?<｜Assistant｜>");
}

TEST_CASE("DeepSeek-R1's chat template") {
  const Published r1 = published("deepseek-r1", "deepseek-v3");
  data::Encoder encoder(r1.tokenizer);
  CHECK(r1.chat.encode_prompt("Who?", encoder) ==
        r1.tokenizer.encode(kBos + "<｜User｜>Who?<｜Assistant｜><think>\n"));
}

TEST_CASE("DeepSeek-V3.1's chat template") {
  check(published("deepseek-v3.1", "deepseek-v3"),
        kBos + "Be brief.<｜User｜>What is 漢字?<｜Assistant｜></think>It is a word." + kEos +
            "<｜User｜>2 + 2<｜Assistant｜></think>4" + kEos,
        kBos + "<｜User｜>Who?<｜Assistant｜></think>");
}

TEST_CASE("What a model of R1 or V3.1 wrote is learnt as the tokens that it wrote") {
  const auto name = GENERATE(as<std::string>{}, "deepseek-r1", "deepseek-v3.1");
  const Published model = published(name, "deepseek-v3");
  const std::int32_t eos = model.tokenizer.special_tokens().eos;
  std::vector<std::int32_t> written =
      model.tokenizer.encode("<think>\nTwo words </think>\n\n漢字</think>!");
  CHECK(std::ranges::count(written, *model.tokenizer.token_id("</think>")) == 2);
  written.push_back(eos);
  const CompletionEnd end = make_completion_end(model.tokenizer, {}, model.chat.end_of_answer());
  const std::string text =
      completion_text(model.tokenizer, {written, {}, FinishReason::kStop}, end).shown;
  data::Encoder encoder(model.tokenizer);
  const data::ChatTokens learnt =
      model.chat.encode({{Role::kUser, "<think>"}, {Role::kAssistant, text}}, encoder);
  std::vector<std::int32_t> want = model.chat.encode_prompt("<think>", encoder);
  const std::size_t num_read = want.size();
  want.insert(want.end(), written.begin(), written.end());
  CHECK(learnt.tokens == want);
  CHECK(std::ranges::count(learnt.is_response, true) == std::ssize(written));
  CHECK(learnt.is_response[num_read]);
}

TEST_CASE("What is learnt of DeepSeek-V2's template are the answers with the space before them") {
  const Published v2 = published("deepseek-v2", "deepseek-v2");
  data::Encoder encoder(v2.tokenizer);
  const data::ChatTokens found = v2.chat.encode(kTwoTurns, encoder);
  std::vector<std::int32_t> learnt;
  for (std::size_t i = 0; i < found.tokens.size(); ++i) {
    if (found.is_response[i]) {
      learnt.push_back(found.tokens[i]);
    }
  }
  CHECK(v2.tokenizer.decode(learnt) == " It is a word." + kEos + " 4" + kEos);
}

TEST_CASE("What ends an answer of the template ends a completion in a chat alone") {
  const test::TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "run.textproto";
  const auto tokenizer =
      data::Tokenizer::load(test::source_path("tests/fixtures/tokenizer/shapes/deepseek-v3.json"));
  const std::int32_t eos = tokenizer.special_tokens().eos;
  const auto end_of = [&](const std::string& marker, bool is_chat) {
    write_file_atomically(path, "data { chat { end: \"" + marker + "\" } }");
    return make_completion_end(config::load(path), tokenizer, is_chat, {"!"});
  };
  const CompletionEnd token = end_of("<｜User｜>", true);
  CHECK(token.tokens == std::vector{eos, *tokenizer.token_id("<｜User｜>")});
  CHECK(token.strings.find("a!<｜User｜>").begin == 1);
  CHECK(token.strings.find("<｜User｜>!").begin == std::string("<｜User｜>").size());
  const CompletionEnd text = end_of("</s>", true);
  CHECK(text.tokens == std::vector{eos});
  CHECK(text.template_end == "</s>");
  CHECK(text.strings.find("a</s>!").begin == 1);
  CHECK(end_of("<｜User｜>", false).tokens == std::vector{eos});
  CHECK(end_of("</s>", false).strings.find("a</s>!").begin == 5);
}

}  // namespace
}  // namespace fathom::trainer
