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
#include "tests/support/temporary_folder.h"

namespace fathom::rl {
namespace {

using std::chrono::milliseconds;
using namespace std::chrono_literals;

const Problem kProblem{"7", "2 + 2 =\n", "4", "number"};

RewardValue ask(const CommandReward& reward, std::string_view completion) {
  const RewardInput input{.problem = &kProblem, .completion = completion};
  return reward.score({&input, 1}).front();
}

std::optional<double> answer(const std::string& command, std::string_view completion = "4",
                             milliseconds time_limit = 5s) {
  return ask(CommandReward({command, time_limit}), completion).value;
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
  const CommandReward reward({"n=0; while read -r l; do n=$((n+1)); echo $n; done", 5s});
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
  const CommandReward once({"read -r l; echo 1", 5s});
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
  const CommandReward reward(
      {"if [ -e " + mark + " ]; then " + echo("1") + "; else touch " + mark + "; sleep 60; fi",
       1s});
  const auto start = std::chrono::steady_clock::now();
  CHECK(ask(reward, "x").value == std::nullopt);
  CHECK(ask(reward, "x").value == 1.0);
  CHECK(std::chrono::steady_clock::now() - start < 10s);
  // Does not even read: the question does not fit into the socket.
  CHECK(answer("sleep 60", std::string(1 << 22, 'x'), 300ms) == std::nullopt);
  CHECK(ask(CommandReward({"sleep 60", 100ms}), "x").reason.find("flush") != std::string::npos);
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
    const CommandReward reward({"trap '' TERM HUP PIPE; sleep 600 & echo $! > " + child +
                                    "; echo $$ > " + own + "; " + echo("1"),
                                5s});
    CHECK(ask(reward, "x").value == 1.0);
    CHECK(is_running(std::stoi(read_file(own))));
    CHECK(is_running(std::stoi(read_file(child))));
  }
  CHECK_FALSE(is_running(std::stoi(read_file(own))));  // not even a zombie
  CHECK_FALSE(is_alive(child));
  CHECK(waitpid(-1, nullptr, WNOHANG) == -1);
  CHECK(errno == ECHILD);
}

TEST_CASE("A command reward without command or time is refused") {
  CHECK_THROWS_AS(CommandReward({"", 5s}), ConfigError);
  CHECK_THROWS_AS(CommandReward({"cat", 0s}), ConfigError);
}

}  // namespace fathom::rl
