#include "rl/rewards/command_reward.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"

namespace fathom::rl {
namespace {

using Ending = LineProcess::Ending;

constexpr std::size_t kMaxReasonBytes = 200;  // of an answer that is not understood

std::string question(const RewardInput& input) {
  nlohmann::ordered_json object;
  object["id"] = input.problem->id;
  object["prompt"] = input.problem->prompt;
  object["answer"] = input.problem->answer;
  object["completion"] = input.completion;
  return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
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
  if (word == to_text(Verdict::kVerifierFailed)) {
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

CommandReward::CommandReward(CommandRewardOptions options) : options_(std::move(options)) {
  if (options_.command.empty()) {
    throw ConfigError("command reward: the command is empty");
  }
  if (options_.time_limit.count() <= 0) {
    throw ConfigError(concat("command reward: a time limit of ", options_.time_limit.count(),
                             " ms, want more than 0"));
  }
}

RewardValue CommandReward::score_one(const RewardInput& input) const {
  const std::string line = question(input);
  LineProcess::Answer answer;
  // A command that died may have done so long before this completion: ask once more.
  for (int attempt = 0; attempt < 2 && answer.ending == Ending::kDied; ++attempt) {
    if (process_ == nullptr) {
      process_ = std::make_unique<LineProcess>(options_.command);
    }
    answer = process_->ask(line, options_.time_limit);
    if (answer.ending != Ending::kAnswered) {
      process_.reset();
    }
  }
  if (answer.ending != Ending::kAnswered) {
    return {.value = std::nullopt, .reason = failure(answer.ending, options_.time_limit)};
  }
  RewardValue value = read_verdict(answer.line);
  if (!value.value && answer.line != to_text(Verdict::kVerifierFailed)) {
    process_.reset();
  }
  return value;
}

std::vector<RewardValue> CommandReward::score(std::span<const RewardInput> inputs) const {
  const std::scoped_lock lock(mutex_);
  std::vector<RewardValue> values;
  for (const RewardInput& input : inputs) {
    values.push_back(score_one(input));
  }
  return values;
}

}  // namespace fathom::rl
