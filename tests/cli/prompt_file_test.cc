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

}  // namespace
}  // namespace fathom::cli
