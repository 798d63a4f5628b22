#include "cli/command_line.h"

#include "cli/session.h"
#include "core/error.h"
#include "tests/support/catch.h"

namespace fathom::cli {
namespace {

using Arguments = std::vector<std::string>;

std::string refusal(const Arguments& arguments) {
  Session session;
  try {
    parse_invocation(arguments, session);
  } catch (const ConfigError& error) {
    return error.message();
  }
  return "none";
}

}  // namespace

TEST_CASE("a command line gives config, overrides in order, resume and dry run") {
  Session session;
  const Arguments arguments{"--set", "b.c=2 x",   "run.textproto", "--set=a=b=c", "--resume",
                            "120",   "--dry_run", "--set",         "d=-1"};
  const Invocation invocation = parse_invocation(arguments, session);
  CHECK(invocation.config == "run.textproto");
  CHECK(invocation.overrides == Arguments{"b.c=2 x", "a=b=c", "d=-1"});
  CHECK(invocation.resume.kind == Resume::Kind::kStep);
  CHECK(invocation.resume.step == 120);
  CHECK(invocation.dry_run);
}

TEST_CASE("a bare command line resumes by itself and runs") {
  Session session;
  const Invocation invocation = parse_invocation(Arguments{"a.textproto"}, session);
  CHECK(invocation.resume.kind == Resume::Kind::kAuto);
  CHECK_FALSE(invocation.dry_run);
  CHECK(parse_resume("none").kind == Resume::Kind::kNone);
}

TEST_CASE("a wrong command line is refused by name of what is wrong") {
  CHECK(refusal({}) == "want one CONFIG file, given 0");
  CHECK(refusal({"a", "b"}) == "want one CONFIG file, given 2: a, b");
  CHECK(refusal({"a", "--sett", "x=1"}).find("--sett") != std::string::npos);
  CHECK(refusal({"a", "--dry", "x"}).find("--dry") != std::string::npos);  // no abbreviations
  CHECK(refusal({"a", "-s", "x"}).find("-s") != std::string::npos);
  CHECK(refusal({"a", "--set"}).find("--set") != std::string::npos);
  CHECK(refusal({"a", "--resume", "auto", "--resume", "none"}).find("--resume") !=
        std::string::npos);
  for (const std::string text : {"later", "-1", "", "1.5", "12x"}) {
    CHECK(refusal({"a", "--resume=" + text}).find("--resume") != std::string::npos);
  }
  CHECK(refusal({"a", "--resume", "99999999999999999999"}) ==
        "--resume 99999999999999999999: want auto, none or a step");
}

TEST_CASE("whole numbers are read whole and within their bounds") {
  const std::vector<OptionSpec> specs{{"vocab_size"}};
  const auto read = [&](const std::string& text) {
    return ParsedOptions(Arguments{"--vocab_size", text}, specs).integer("vocab_size", 257, 5000);
  };
  CHECK(read("4096") == 4096);
  CHECK_THROWS_AS(read("256"), ConfigError);
  CHECK_THROWS_AS(read("5001"), ConfigError);
  CHECK_THROWS_AS(read("4096x"), ConfigError);
  CHECK_THROWS_AS(read("1e4"), ConfigError);
  CHECK_THROWS_AS(ParsedOptions(Arguments{}, specs).integer("vocab_size", 1, 2), ConfigError);
}

TEST_CASE("numbers are read whole and within their bounds") {
  const std::vector<OptionSpec> specs{{"top_p"}};
  const auto read = [&](const std::string& text) {
    return ParsedOptions(Arguments{"--top_p", text}, specs).number("top_p", 0.0, 1.0);
  };
  CHECK(read("0.25") == 0.25);
  CHECK(read("1") == 1.0);
  for (const char* text : {"1.5", "-1", "nan", "0.5x", ""}) {
    CHECK_THROWS_AS(read(text), ConfigError);
  }
}

TEST_CASE("A file to write needs its folder") {
  CHECK_NOTHROW(require_folder("--output", ""));
  CHECK_NOTHROW(require_folder("--output", "here.jsonl"));
  CHECK_NOTHROW(require_folder("--output", "/tmp/here.jsonl"));
  CHECK_THROWS_WITH(require_folder("--output", "/no/such/x"),
                    Catch::Contains("--output /no/such/x: there is no folder /no/such"));
}

}  // namespace fathom::cli
