#include "rl/rewards/command_reward.h"

#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <thread>

#include "core/error.h"
#include "core/file.h"
#include "tests/support/catch.h"
#include "tests/support/open_file_limit.h"
#include "tests/support/temporary_folder.h"

namespace fathom::rl {
namespace {

using std::chrono::milliseconds;
using namespace std::chrono_literals;

const Problem kProblem{"7", "2 + 2 =\n", "4", "number"};

RewardValue ask(const CommandReward& reward, std::string_view completion) {
  return reward.score({.problem = &kProblem, .completion = completion});
}

// One process, which has as long for its first answer as for others.
CommandRewardOptions options_of(const std::string& command, milliseconds time_limit = 5s) {
  return {.command = command, .time_limit = time_limit, .start_limit = time_limit};
}

std::optional<double> answer(const std::string& command, std::string_view completion = "4",
                             milliseconds time_limit = 5s) {
  return ask(CommandReward(options_of(command, time_limit)), completion).value;
}

std::string echo(const std::string& text) {
  return "while read -r l; do echo '" + text + "'; done";
}

bool is_running(pid_t pid) { return kill(pid, 0) == 0 || errno != ESRCH; }

// The process that a command wrote the number of into `file`; dead ones count as gone, even where
// nobody has buried them yet.
bool is_alive(const std::filesystem::path& file) {
  const pid_t pid = std::stoi(read_file(file));
  for (int i = 0; i < 200; ++i) {
    if (!is_running(pid)) {
      return false;
    }
    std::ifstream status("/proc/" + std::to_string(pid) + "/stat");
    std::string number;
    std::string name;
    std::string state;
    status >> number >> name >> state;
    if (state.empty() || state == "Z") {
      return false;
    }
    std::this_thread::sleep_for(10ms);
  }
  return true;
}

}  // namespace

TEST_CASE("A command's verdicts and numbers are rewards") {
  CHECK(answer(echo("correct")) == 1.0);
  CHECK(answer(echo(" wrong ")) == 0.0);
  CHECK(answer(echo("0.25")) == 0.25);
  CHECK(answer(echo("-3e-2")) == -0.03);
  for (const std::string text : {"failed", "", "nan", "inf", "1e999", "right", "1 2", "0x10"}) {
    CAPTURE(text);
    CHECK(answer(echo(text)) == std::nullopt);
  }
}

TEST_CASE("The command reads problem and completion as a JSON line") {
  const test::TemporaryFolder folder;
  const std::string file = (folder.path() / "asked").string();
  const std::string command = "while read -r l; do printf '%s' \"$l\" > " + file + "; echo 1; done";
  CHECK(answer(command, "a\nb\xff") == 1.0);
  CHECK(read_file(file) ==
        "{\"id\":\"7\",\"prompt\":\"2 + 2 =\\n\",\"answer\":\"4\","
        "\"completion\":\"a\\nb\xef\xbf\xbd\"}");
}

TEST_CASE("A process answers many questions, from any thread") {
  const CommandReward reward(options_of("n=0; while read -r l; do n=$((n+1)); echo $n; done"));
  std::vector<std::thread> threads;
  std::atomic<int> num_answered = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 25; ++j) {
        num_answered += ask(reward, "x").value ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(num_answered == 100);
  CHECK(ask(reward, "x").value == 101.0);
}

TEST_CASE("A command that dies is started again, twice for one completion is no verdict") {
  // Answers one line and goes.
  const CommandReward once(options_of("read -r l; echo 1"));
  for (int i = 0; i < 5; ++i) {
    CHECK(ask(once, "x").value == 1.0);
  }
  CHECK(answer("exit 3") == std::nullopt);
  CHECK(answer("/no/such/program 2>/dev/null") == std::nullopt);
  CHECK(answer("exec <&-; sleep 0.05") == std::nullopt);  // no SIGPIPE ends this test
  CHECK(answer("exit 0", std::string(1 << 22, 'x')) == std::nullopt);
}

TEST_CASE("A command that hangs is killed at its time limit and started again") {
  const test::TemporaryFolder folder;
  const std::string mark = (folder.path() / "mark").string();
  // Hangs the first time, answers from then on.
  const CommandReward reward(options_of(
      "if [ -e " + mark + " ]; then " + echo("1") + "; else touch " + mark + "; sleep 60; fi", 1s));
  const auto start = std::chrono::steady_clock::now();
  CHECK(ask(reward, "x").value == std::nullopt);
  CHECK(ask(reward, "x").value == 1.0);
  CHECK(std::chrono::steady_clock::now() - start < 10s);
  // Does not even read: the question does not fit into the socket.
  CHECK(answer("sleep 60", std::string(1 << 22, 'x'), 300ms) == std::nullopt);
  CHECK(ask(CommandReward(options_of("sleep 60", 100ms)), "x").reason.find("flush") !=
        std::string::npos);
}

TEST_CASE("Output that nobody asked for, or without end, gives no verdict") {
  CHECK(answer("printf '1\\n1\\n'; " + echo("1")) == std::nullopt);
  CHECK(answer("while read -r l; do printf '1\\n1\\n'; done") == std::nullopt);
  CHECK(answer("yes 1") == std::nullopt);
  CHECK(answer("cat /dev/zero") == std::nullopt);
}

TEST_CASE("A long completion passes while the command writes nothing") {
  CHECK(answer("while read -r l; do echo ${#l}; done", std::string(1 << 20, 'x')) > 1 << 20);
}

TEST_CASE("The command and its children are killed with the reward, and buried") {
  const test::TemporaryFolder folder;
  const std::string own = (folder.path() / "own").string();
  const std::string child = (folder.path() / "child").string();
  {
    const CommandReward reward(options_of("trap '' TERM HUP PIPE; sleep 600 & echo $! > " + child +
                                          "; echo $$ > " + own + "; " + echo("1")));
    CHECK(ask(reward, "x").value == 1.0);
    CHECK(is_running(std::stoi(read_file(own))));
    CHECK(is_running(std::stoi(read_file(child))));
  }
  CHECK_FALSE(is_running(std::stoi(read_file(own))));  // not even a zombie
  CHECK_FALSE(is_alive(child));
  CHECK(waitpid(-1, nullptr, WNOHANG) == -1);
  CHECK(errno == ECHILD);
}

TEST_CASE("The first answer after a start has a limit of its own") {
  const test::TemporaryFolder folder;
  const std::string starts = (folder.path() / "starts").string();
  // Takes half a second to start, dies after two answers, and hangs where it is told to.
  const CommandReward reward(
      {.command =
           "sleep 0.5; echo >> " + starts +
           "; for i in 1 2; do read -r l; case \"$l\" in *hang*) sleep 60;; esac; echo 1; done",
       .time_limit = 200ms,
       .start_limit = 20s});
  for (int i = 0; i < 5; ++i) {  // three lives
    CHECK(ask(reward, "x").value == 1.0);
  }
  const RewardValue hung = ask(reward, "hang");
  CHECK(hung.value == std::nullopt);
  CHECK(hung.reason.find("within 200 ms") != std::string::npos);
  CHECK(ask(reward, "x").value == 1.0);
  CHECK(read_file(starts) == "\n\n\n\n");
  // Never within its limit.
  const CommandReward slow(
      {.command = "sleep 60; " + echo("1"), .time_limit = 20ms, .start_limit = 60ms});
  CHECK(ask(slow, "x").reason.find("within 60 ms") != std::string::npos);
}

TEST_CASE("Several processes answer side by side, and only as many as are asked at once") {
  const test::TemporaryFolder folder;
  const std::string file = (folder.path() / "processes").string();
  // Answers when two of them wait at the same time.
  const std::string command = "while read -r l; do echo $$ >> " + file + "; while [ $(sort -u " +
                              file + " | wc -l) -lt 2 ]; do sleep 0.01; done; echo 1; done";
  const CommandReward reward({.command = command, .time_limit = 20s, .num_processes = 3});
  CHECK(reward.num_at_once() == 3);
  std::atomic<int> num_answered = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] { num_answered += ask(reward, "x").value ? 1 : 0; });
    }
  }
  CHECK(num_answered == 2);
  const CommandReward lazy(
      {.command = "echo >> " + file + ".lazy; " + echo("1"), .num_processes = 3});
  for (int i = 0; i < 4; ++i) {  // one after the other
    CHECK(ask(lazy, "x").value == 1.0);
  }
  CHECK(read_file(file + ".lazy") == "\n");
}

TEST_CASE("A command that ends, or speaks, before it is asked is refused") {
  for (const std::string command : {"/no/such/program 2>/dev/null",
                                    "sh /no/such/script 2>/dev/null", "exit 0", "true | true"}) {
    CAPTURE(command);
    CHECK_THROWS_WITH(CommandReward(options_of(command)).try_start(10s),
                      Catch::Contains("ends before it is asked anything"));
  }
  CHECK_THROWS_WITH(CommandReward(options_of("echo ready; " + echo("1"))).try_start(10s),
                    Catch::Contains("writes on standard output before it is asked"));
  const test::TemporaryFolder folder;
  const std::string starts = (folder.path() / "starts").string();
  CommandReward good(options_of("echo >> " + starts + "; " + echo("1")));
  good.try_start(100ms);
  CHECK(ask(good, "x").value == 1.0);
  CHECK(read_file(starts) == "\n");  // the process that was looked at
}

TEST_CASE("A command reward without command, time or processes is refused") {
  CHECK_THROWS_AS(CommandReward(options_of("")), ConfigError);
  CHECK_THROWS_AS(CommandReward(options_of("cat", 0s)), ConfigError);
  CHECK_THROWS_AS(CommandReward({.command = "cat", .start_limit = 0s}), ConfigError);
  CHECK_THROWS_AS(CommandReward({.command = "cat", .num_processes = 0}), ConfigError);
}

TEST_CASE("A command that the system cannot start gives no verdict, and is started later") {
  if (test::kErrorsNeedFiles) {
    return;
  }
  const CommandReward reward(options_of(echo("correct")));
  {
    const test::OpenFileLimit limit(3);
    const RewardValue value = ask(reward, "4");
    CHECK(value.value == std::nullopt);
    CHECK(value.reason == "reward command: socketpair: Too many open files");
  }
  CHECK(ask(reward, "4").value == 1.0);
}

}  // namespace fathom::rl
