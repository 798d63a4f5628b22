#include "cli/prompt_file.h"

#include <fstream>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::cli {
namespace {

TEST_CASE("a completion's line has the fields that programs read") {
  trainer::Completion completion{{3, 9}, {-0.5F, -2.0F}, trainer::FinishReason::kStop};
  CHECK(completion_line({"7", "a \"b\""}, completion, "c\xff", 0, false) ==
        R"({"id":7,"prompt":"a \"b\"","completion":"c�","tokens":[3,9],)"
        R"("logprobs":[-0.5,-2.0],"finish":"stop"})");
  CHECK(completion_line({R"("x")", ""}, {}, "", 1, true) ==
        R"({"id":"x","sample":1,"prompt":"","completion":"","tokens":[],"logprobs":[],)"
        R"("finish":"length"})");
}

TEST_CASE("a text is shown up to its last whole character") {
  CHECK(whole_characters("") == "");
  CHECK(whole_characters("ab") == "ab");
  CHECK(whole_characters("a\xc3\xa9") == "a\xc3\xa9");
  CHECK(whole_characters("a\xc3") == "a");
  CHECK(whole_characters("a\xe2\x82") == "a");
  CHECK(whole_characters("a\xf0\x9f\x98") == "a");
  CHECK(whole_characters("a\xf0\x9f\x98\x80") == "a\xf0\x9f\x98\x80");
}

TEST_CASE("questions have choices, one of which is right") {
  const test::TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "questions.jsonl";
  const auto write = [&](const std::string& text) { std::ofstream(file) << text; };
  write(
      "\n{\"prompt\": \"p\", \"choices\": [\"a\", \"b\"], \"answer\": 1, \"id\": \"x\"}\n"
      "{\"prompt\": \"\", \"choices\": [\"a\", \"b\", \"c\"], \"answer\": 0}\n");
  const std::vector<Question> questions = read_questions(file);
  REQUIRE(questions.size() == 2);
  CHECK(questions[0].id == "\"x\"");
  CHECK(questions[0].prompt == "p");
  CHECK(questions[0].choices == std::vector<std::string>{"a", "b"});
  CHECK(questions[0].answer == 1);
  CHECK(questions[1].id == "1");
  const auto refused = [&](const std::string& line, const std::string& why) {
    write("\n" + line + "\n");
    CHECK_THROWS_WITH(read_questions(file), Catch::Contains("questions.jsonl:2: " + why));
  };
  refused(R"({"prompt": "p", "choices": ["a", "b"], "answer": 2})", "\"answer\" is 2");
  refused(R"({"prompt": "p", "choices": ["a", "b"], "answer": -1})", "want {");
  refused(R"({"prompt": "p", "choices": ["a", "b"], "answer": "a"})", "want {");
  refused(R"({"prompt": "p", "choices": ["a", ""], "answer": 0})", "want {");
  refused(R"({"prompt": "p", "choices": ["a"], "answer": 0})", "want {");
  refused(R"({"prompt": "p", "answer": 0})", "want {");
  refused(R"({"choices": ["a", "b"], "answer": 0})", "want {");
  refused(R"(["a"])", "want {");
  write("\n");
  CHECK_THROWS_WITH(read_questions(file), Catch::Contains("holds no question"));
}

}  // namespace
}  // namespace fathom::cli
