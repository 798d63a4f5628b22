#include "rl/problems/problem.h"

#include <fstream>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::rl {
namespace {

const std::string kGood =
    R"({"id": "a", "prompt": "2 + 2 =\n", "answer": "4", "verifier": "number"})";

std::string refusal(const std::string& text) {
  const test::TemporaryFolder folder;
  const auto file = folder.path() / "problems.jsonl";
  std::ofstream(file, std::ios::binary) << text;
  try {
    read_problems(file);
  } catch (const ConfigError& error) {
    const std::string name = file.string();
    CHECK(error.message().find(name) == 0);
    return error.message().substr(name.size());
  }
  return "none";
}

bool begins(const std::string& text, const std::string& with) { return text.find(with) == 0; }

}  // namespace

TEST_CASE("Problems come back from JSON lines as they were") {
  const test::TemporaryFolder folder;
  const std::vector<Problem> problems{
      {"1", "a \"b\"\n\\frac", "\xe6\xbc\xa2", "text"},
      {"2", std::string("nul \0 within", 12), "", "text"},
  };
  const auto file = folder.path() / "problems.jsonl";
  {
    std::ofstream out(file, std::ios::binary);
    out << to_json_line(problems[0]) << "\r\n\n  \n" << to_json_line(problems[1]);
  }
  CHECK(read_problems(file) == problems);
  CHECK(to_json_line({"7", "2 =\n", "2", "number"}) ==
        R"({"id":"7","prompt":"2 =\n","answer":"2","verifier":"number"})");
}

TEST_CASE("A line that is no problem is refused by file and line") {
  CHECK(refusal(kGood) == "none");
  CHECK(begins(refusal(kGood + "\n\nnonsense\n"), ":3: not valid JSON"));
  CHECK(begins(refusal(kGood + "\n[1]\n"), ":2: want an object with the text field \"id\""));
  CHECK(begins(refusal(R"({"id": "a", "prompt": "b", "answer": 4, "verifier": "number"})"),
               ":1: want an object with the text field \"answer\""));
  CHECK(begins(refusal(R"({"id": "a", "prompt": "b", "answer": "4"})"),
               ":1: want an object with the text field \"verifier\""));
  CHECK(begins(refusal(R"({"id": "a", "prompt": "", "answer": "4", "verifier": "number"})"),
               ":1: the prompt is empty"));
  CHECK(begins(refusal(kGood + R"(
{"id": "b", "prompt": "b", "answer": "four", "verifier": "number"})"),
               ":2: the answer \"four\" is no number"));
  CHECK(begins(refusal(R"({"id": "b", "prompt": "b", "answer": "4", "verifier": "sum"})"),
               ":1: no verifier \"sum\""));
  CHECK(begins(refusal(kGood + "\n" + kGood), ":2: the id \"a\" is that of line 1 too"));
  CHECK(begins(refusal(std::string(5 << 20, 'a')), ":1: a line of more than"));
  CHECK(begins(refusal("\n \n"), ": holds no problems"));
  CHECK_THROWS_AS(read_problems("/no/such/file"), IoError);
}

}  // namespace fathom::rl
