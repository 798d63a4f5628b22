#include "rl/rewards/command_reward.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "data/json.h"

namespace fathom::rl {
namespace {

using Ending = LineProcess::Ending;

// What a command says of a completion that it has no verdict on.
constexpr std::string_view kFailed = "failed";
constexpr std::size_t kMaxReasonBytes = 200;  // of an answer that is not understood

std::string question(const RewardInput& input) {
  nlohmann::ordered_json object;
  object["id"] = input.problem->id;
  object["prompt"] = input.problem->prompt;
  object["answer"] = input.problem->answer;
  object["completion"] = input.completion;
  return data::json_line(object);
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kWhiteSpace = " \t\r";
  const std::size_t begin = std::min(text.find_first_not_of(kWhiteSpace), text.size());
  const std::size_t end = text.find_last_not_of(kWhiteSpace);
  return text.substr(begin, end == std::string_view::npos ? 0 : end + 1 - begin);
}

RewardValue read_verdict(std::string_view line) {
  const std::string_view word = trim(line);
  if (word == to_text(Verdict::kCorrect)) {
    return {.value = 1.0, .reason = std::string(word)};
  }
  if (word == to_text(Verdict::kWrong)) {
    return {.value = 0.0, .reason = std::string(word)};
  }
  if (word == kFailed) {
    return {.value = std::nullopt, .reason = std::string(word)};
  }
  double value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error == std::errc() && end == word.data() + word.size() && std::isfinite(value)) {
    return {.value = value, .reason = std::string(word)};
  }
  return {.value = std::nullopt,
          .reason = concat("the command answered \"", word.substr(0, kMaxReasonBytes),
                           "\", want correct, wrong, failed or a number")};
}

std::string failure(Ending ending, std::chrono::milliseconds time_limit) {
  switch (ending) {
    case Ending::kTimedOut:
      return concat("no answer of the command within ", time_limit.count(),
                    " ms; does it flush its output?");
    case Ending::kTooMuchOutput:
      return "the command wrote more than one line for a completion";
    case Ending::kDied:
      return "the command died twice";
    case Ending::kAnswered:
      break;
  }
  return "";
}

}  // namespace

// A judge for one question; waits until one is idle.
class CommandReward::Loan {
 public:
  explicit Loan(const CommandReward& reward) : reward_(reward) {
    std::unique_lock lock(reward_.mutex_);
    reward_.given_back_.wait(lock, [&] { return !reward_.idle_.empty(); });
    judge_ = std::move(reward_.idle_.back());
    reward_.idle_.pop_back();
  }
  ~Loan() {
    {
      const std::scoped_lock lock(reward_.mutex_);
      reward_.idle_.push_back(std::move(judge_));
    }
    reward_.given_back_.notify_one();
  }
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;
  Judge& judge() { return *judge_; }

 private:
  const CommandReward& reward_;
  std::unique_ptr<Judge> judge_;
};

CommandReward::CommandReward(CommandRewardOptions options) : options_(std::move(options)) {
  if (options_.command.empty()) {
    throw ConfigError("command reward: the command is empty");
  }
  if (options_.time_limit.count() <= 0 || options_.start_limit.count() <= 0 ||
      options_.num_processes <= 0) {
    throw ConfigError(concat("command reward: a time limit of ", options_.time_limit.count(),
                             " ms, a start limit of ", options_.start_limit.count(), " ms and ",
                             options_.num_processes, " processes, want all above 0"));
  }
  for (int i = 0; i < options_.num_processes; ++i) {
    idle_.push_back(std::make_unique<Judge>());
  }
}

void CommandReward::try_start(std::chrono::milliseconds look) {
  Judge& judge = *idle_.back();
  judge.process = std::make_unique<LineProcess>(options_.command);
  const std::optional<Ending> found = judge.process->look(look);
  if (!found) {
    return;
  }
  judge.process.reset();
  throw ConfigError(
      *found == Ending::kDied
          ? concat("\"", options_.command,
                   "\" ends before it is asked anything; what it wrote on standard error says why")
          : concat("\"", options_.command,
                   "\" writes on standard output before it is asked anything; one line for each "
                   "completion is wanted, and nothing else"));
}

// A command that died may have done so long before this completion: asks once more.
CommandReward::Asked CommandReward::ask(Judge& judge, const std::string& line) const {
  Asked asked;
  for (int attempt = 0; attempt < 2 && asked.answer.ending == Ending::kDied; ++attempt) {
    if (judge.process == nullptr) {
      judge = {.process = std::make_unique<LineProcess>(options_.command), .was_asked = false};
    }
    asked.limit =
        judge.was_asked ? options_.time_limit : std::max(options_.time_limit, options_.start_limit);
    asked.answer = judge.process->ask(line, asked.limit);
    judge.was_asked = true;
    if (asked.answer.ending != Ending::kAnswered) {
      judge.process.reset();
    }
  }
  return asked;
}

RewardValue CommandReward::score(const RewardInput& input) const {
  const std::string line = question(input);
  Loan loan(*this);
  Asked asked;
  try {
    asked = ask(loan.judge(), line);
  } catch (const IoError& error) {  // the system has no process or file to give now
    loan.judge().process.reset();
    return {.value = std::nullopt, .reason = error.message()};
  }
  const auto& [answer, limit] = asked;
  if (answer.ending != Ending::kAnswered) {
    return {.value = std::nullopt, .reason = failure(answer.ending, limit)};
  }
  RewardValue value = read_verdict(answer.line);
  if (!value.value && trim(answer.line) != kFailed) {
    loan.judge().process.reset();
  }
  return value;
}

}  // namespace fathom::rl
