#include "data/conversation.h"

#include <string>

#include "core/error.h"
#include "core/file.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::data {
namespace {

class File {
 public:
  explicit File(const std::string& content) { write_file_atomically(path(), content); }
  std::filesystem::path path() const { return folder_.path() / "chats.jsonl"; }

 private:
  test::TemporaryFolder folder_;
};

std::string error_of(const std::string& content) {
  const File file(content);
  ConversationReader reader(file.path());
  try {
    for (Conversation conversation; reader.next(conversation);) {
    }
  } catch (const ConfigError& error) {
    return error.message().substr(file.path().string().size());
  }
  return "no error";
}

TEST_CASE("Conversations are read from messages and from prompts, other fields left aside") {
  const File file(
      R"({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"},)"
      R"( {"role": "assistant", "content": "yo", "name": "b"}], "source": {"a": [1]}})"
      "\n\n"
      R"({"id": 7, "prompt": "1+1=", "completion": "2", "tokens": [4], "logprobs": [-0.5], "finish": "stop"})");
  ConversationReader reader(file.path());
  Conversation conversation;
  REQUIRE(reader.next(conversation));
  CHECK(reader.line_number() == 1);
  REQUIRE(conversation.size() == 3);
  CHECK(conversation[0].role == Role::kSystem);
  CHECK(conversation[0].content == "Be brief.");
  CHECK(conversation[1].role == Role::kUser);
  CHECK(conversation[2].role == Role::kAssistant);
  CHECK(conversation[2].content == "yo");
  REQUIRE(reader.next(conversation));
  CHECK(reader.line_number() == 3);
  REQUIRE(conversation.size() == 2);
  CHECK(conversation[0].role == Role::kUser);
  CHECK(conversation[0].content == "1+1=");
  CHECK(conversation[1].role == Role::kAssistant);
  CHECK(conversation[1].content == "2");
  CHECK_FALSE(reader.next(conversation));
}

TEST_CASE("A line that is no conversation is refused with file, line and field") {
  const std::string good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
  CHECK(error_of(good + good + "{\"prompt\": ").starts_with(":3: not valid JSON"));
  CHECK(error_of(good + "[1]\n") == ":2: want a JSON object, not array");
  CHECK(error_of("{\"text\": \"a\"}") ==
        ":1: want a field \"messages\", or \"prompt\" and \"completion\"; there is neither");
  CHECK(error_of("{\"prompt\": \"a\"}") == ":1: no field \"completion\"");
  CHECK(error_of("{\"prompt\": \"a\", \"completion\": null}") ==
        ":1: field \"completion\" is null, want a string");
  CHECK(error_of("{\"messages\": [], \"prompt\": \"a\"}") ==
        ":1: has both \"messages\" and \"prompt\" or \"completion\": leave out one of them");
  CHECK(error_of("{\"messages\": \"a\"}") == ":1: field \"messages\" is string, want an array");
  CHECK(error_of("{\"messages\": []}") == ":1: field \"messages\" is empty");
  CHECK(error_of("{\"messages\": [\"a\"]}") ==
        ":1: messages[0] is string, want an object with role and content");
  CHECK(error_of(R"({"messages": [{"role": "user"}]})") == ":1: no field \"messages[0].content\"");
  CHECK(error_of(R"({"messages": [{"role": "user", "content": ["a"]}]})") ==
        ":1: field \"messages[0].content\" is array, want a string");
  CHECK(error_of(R"({"messages": [{"role": "tool", "content": "a"}]})") ==
        ":1: messages[0].role is \"tool\", want system, user or assistant");
  CHECK(
      error_of(
          R"({"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]})") ==
      ":1: messages[1] is of the system: only the first may be");
  CHECK(error_of(R"({"messages": [{"role": "user", "content": "a"}]})") ==
        ":1: none of its 1 messages is of the assistant: there is nothing to learn from");
}

TEST_CASE("A missing file of conversations and a folder are refused") {
  const test::TemporaryFolder folder;
  CHECK_THROWS_AS(ConversationReader(folder.path() / "none.jsonl"), IoError);
  CHECK_THROWS_AS(ConversationReader(folder.path()), IoError);
}

}  // namespace
}  // namespace fathom::data
