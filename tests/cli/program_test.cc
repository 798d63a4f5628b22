#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "core/file.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_folder.h"

namespace fathom::cli {
namespace {

struct Result {
  int exit_code = -1;
  std::string output;
  std::string errors;
};

// The program with some arguments, as a shell runs it. num_ranks 0: without mpirun.
class Program {
 public:
  Result run(const std::string& arguments, int num_ranks = 0) const {
    const std::string errors_file = (folder_.path() / "errors").string();
    const std::string launcher =
        num_ranks == 0 ? ""
                       : concat("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ",
                                "ASAN_OPTIONS=detect_leaks=0 ",  // what Open MPI leaks is not ours

                                FATHOM_MPIEXEC, " --oversubscribe -n ", num_ranks, ' ');
    const std::string command = concat("cd ", folder_.path().string(), " && ", launcher,
                                       test::build_path("fathom"), " ", arguments, " 2> errors");
    Result result;
    FILE* pipe = popen(command.c_str(), "r");
    REQUIRE(pipe != nullptr);
    for (int c = 0; (c = std::fgetc(pipe)) != EOF;) {
      result.output += static_cast<char>(c);
    }
    const int status = pclose(pipe);
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result.errors = read_file(errors_file);
    return result;
  }
  std::filesystem::path path() const { return folder_.path(); }

 private:
  test::TemporaryFolder folder_;
};

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++found;
  }
  return found;
}

const std::string kTiny = test::source_path("configs/runs/tiny.textproto");

}  // namespace

TEST_CASE("help is on stdout, for the program and for each command") {
  const Program program;
  const Result overview = program.run("--help");
  CHECK(overview.exit_code == 0);
  CHECK(overview.errors.empty());
  for (const std::string name :
       {"pretrain", "sft", "generate", "train-tokenizer", "tokenize", "problems", "inspect"}) {
    CAPTURE(name);
    CHECK(overview.output.find("  " + name + " ") != std::string::npos);
    const Result help = program.run(name + " --help");
    CHECK(help.exit_code == 0);
    CHECK(help.output.find("usage: ") == 0);
    CHECK(help.output.find("fathom " + name) != std::string::npos);
    CHECK(help.output.find("example") != std::string::npos);
  }
  CHECK(program.run("").exit_code == 93);
}

TEST_CASE("output that cannot be written is an error of the program") {
  const Result result = Program().run("--help > /dev/full");
  CHECK(result.exit_code == 1);
  CHECK(result.errors.find("fathom: standard output cannot be written") == 0);
}

TEST_CASE("an error of the user is one message and exit code 93") {
  const Program program;
  const Result unknown = program.run("pretran");
  CHECK(unknown.exit_code == 93);
  CHECK(unknown.errors.find("fathom: no command \"pretran\"; there are pretrain") == 0);

  const Result missing = program.run("pretrain none.textproto");
  CHECK(missing.exit_code == 93);
  CHECK(missing.errors == "fathom: none.textproto: no such file\n");

  const Result field = program.run("pretrain " + kTiny + " --set model.hiden_size=3");
  CHECK(field.exit_code == 93);
  CHECK(field.errors ==
        "fathom: --set model.hiden_size=3: no field \"hiden_size\" in Model; did you mean "
        "\"hidden_size\"?\n");
}

TEST_CASE("a dry run says that it has no ranks to fill mesh.data from") {
  const Program program;
  const std::string line =
      "mesh.data is not given: a dry run has no ranks to fill it from and takes 1\n";
  const Result filled = program.run("pretrain " + kTiny + " --dry_run");
  CHECK(filled.exit_code == 0);
  CHECK(filled.output.find(line + "mesh: pipeline 1 x data 1 x tensor 1") == 0);
  for (const Result& given : {program.run("pretrain " + kTiny + " --dry_run --set mesh.data=2"),
                              program.run("pretrain " + kTiny + " --dry_run", 2)}) {
    CHECK(given.exit_code == 0);
    CHECK(given.output.find("mesh: pipeline 1 x data 2 x tensor 1") == 0);
  }
}

TEST_CASE("under mpirun an error that all ranks share is reported once") {
  const Program program;
  const Result layout = program.run("pretrain " + kTiny + " --set mesh.tensor=3", 4);
  CHECK(layout.exit_code == 93);
  CHECK(count(layout.errors, "fathom: ") == 1);
  CHECK(layout.errors.find("mesh.tensor (3) = 3 does not divide the number of ranks (4)") !=
        std::string::npos);

  const Result option = program.run("pretrain " + kTiny + " --sett x", 4);
  CHECK(option.exit_code == 93);
  CHECK(count(option.errors, "fathom: ") == 1);
  CHECK(program.run("--help", 3).output == program.run("--help").output);
}

TEST_CASE("a tokenizer is learnt from text and JSON lines") {
  const Program program;
  write_file_atomically(program.path() / "a.txt", "to be or not to be\n\nthat is the question\n");
  write_file_atomically(program.path() / "b.jsonl", "{\"text\": \"to be or to be\"}\n");
  const Result result =
      program.run("train-tokenizer a.txt b.jsonl --vocab_size 270 --output out/t.json");
  CHECK(result.errors.empty());
  CHECK(result.exit_code == 0);
  CHECK(result.output.find("out/t.json: 270 tokens") == 0);
  CHECK(std::filesystem::exists(program.path() / "out" / "t.json"));

  CHECK(program.run("train-tokenizer none.txt --output t.json").exit_code == 93);
  CHECK(program.run("train-tokenizer --output t.json").exit_code == 93);
  CHECK(program.run("train-tokenizer a.txt").exit_code == 93);
  CHECK(program.run("train-tokenizer a.txt --output t.json --vocab_size 10").exit_code == 93);
}

TEST_CASE(
    "token shards do not depend on how many ranks made them, and inspect shows what is in them") {
  const Program program;
  std::string text;
  for (int i = 0; i < 400; ++i) {
    text += concat("document ", i, " says ", i * i, "\n\n");
  }
  write_file_atomically(program.path() / "a.txt", text);
  REQUIRE(program.run("train-tokenizer a.txt --vocab_size 300 --output t.json").exit_code == 0);
  const std::string tokenize = "tokenize a.txt --tokenizer t.json --shard_bytes 3000 --output ";
  const Result one = program.run(tokenize + "one/train");
  CHECK(one.exit_code == 0);
  CHECK(one.output.find("one/train: ") == 0);
  const Result three = program.run(tokenize + "three/train", 3);
  CHECK(three.exit_code == 0);
  CHECK(three.output.substr(three.output.find(':')) == one.output.substr(one.output.find(':')));
  int num_shards = 0;
  for (const auto& shard : std::filesystem::directory_iterator(program.path() / "one")) {
    CHECK(read_file(shard.path()) == read_file(program.path() / "three" / shard.path().filename()));
    ++num_shards;
  }
  CHECK(num_shards > 2);

  const Result inspected = program.run("inspect one/train --verify");
  CHECK(inspected.exit_code == 0);
  CHECK(count(inspected.output, " MB of text\n") == num_shards);
  CHECK(inspected.output.find("verified   every token") != std::string::npos);

  const std::string run = kTiny + " --set data.train[0].path=one/train --step 2";
  const Result step = program.run("inspect " + run);
  CHECK(step.exit_code == 0);
  CHECK(step.output.find("step 2: samples 8 to 15 of 32 tokens\nsample 8 of ") == 0);
  CHECK(count(step.output, "\nsample ") == 8);
  const std::string shard = "one/train-00000-of-0000" + std::to_string(num_shards) + ".h5";
  const Result part = program.run("inspect " + shard + " --config " + run);
  CHECK(part.exit_code == 0);
  CHECK(count(part.output, "\nsample ") < 8);
  CHECK(count(part.output, "\nsample ") > 0);

  CHECK(program.run("inspect one/trai").exit_code == 93);
  CHECK(program.run("inspect " + shard + " --step 2").exit_code == 93);
  CHECK(program.run("tokenize a.txt --tokenizer none.json --output x/y", 2).exit_code == 93);
}

TEST_CASE("what cannot become shards that pretrain reads is refused before anything is written") {
  const Program program;
  write_file_atomically(program.path() / "a.txt", "to be or not to be\n");
  write_file_atomically(program.path() / "a.jsonl.zst", std::string("\x28\xb5\x2f\xfd\0", 5));
  REQUIRE(program.run("train-tokenizer a.txt --vocab_size 262 --output t.json").exit_code == 0);
  const Result packed =
      program.run("tokenize a.txt a.jsonl.zst --tokenizer t.json --output x/y", 2);
  CHECK(packed.exit_code == 93);
  CHECK(count(packed.errors, "a.jsonl.zst: holds zero bytes") == 1);
  CHECK(program.run("train-tokenizer a.jsonl.zst --output u.json").exit_code == 93);

  std::string endless = read_file(program.path() / "t.json");
  const std::string end = "end_of_sentence";
  for (std::size_t at = endless.find(end); at != std::string::npos; at = endless.find(end, at)) {
    endless.replace(at, end.size(), "stop");
  }
  write_file_atomically(program.path() / "endless.json", endless);
  const Result refused = program.run("tokenize a.txt --tokenizer endless.json --output x/y", 2);
  CHECK(refused.exit_code == 93);
  CHECK(count(refused.errors, "endless.json: no added token ends a sentence") == 1);
  CHECK_FALSE(std::filesystem::exists(program.path() / "x"));
}

TEST_CASE("problems writes JSON lines, or text for a warm start") {
  const Program program;
  const Result written =
      program.run("problems sorting --difficulty 3 --count 5 --split held_out --output a.jsonl");
  CHECK(written.exit_code == 0);
  CHECK(written.output == "a.jsonl: 5 problems\n");
  const std::string lines = read_file(program.path() / "a.jsonl");
  CHECK(count(lines, "\n") == 5);
  CHECK(count(lines, "\"verifier\":\"integers\"") == 5);
  CHECK(program.run("problems arithmetic --count 2 --text --output b.jsonl").exit_code == 0);
  CHECK(count(read_file(program.path() / "b.jsonl"), "{\"text\":\"") == 2);
  CHECK(program.run("problems arithmetic --count 2 --output made/here/b.jsonl").exit_code == 0);
  CHECK(std::filesystem::exists(program.path() / "made" / "here" / "b.jsonl"));
  CHECK(program.run("problems sums --count 2 --output c.jsonl").exit_code == 93);
  CHECK(program.run("problems sorting --count 2 --split test --output c.jsonl").exit_code == 93);
  CHECK(program.run("problems sorting --count 0 --output c.jsonl").exit_code == 93);
}

}  // namespace fathom::cli
