#include "rl/rewards/format_reward.h"

#include <utility>

namespace fathom::rl {
namespace {

// Why the text is not of the form; empty when it is.
std::string departure(std::string_view text, bool thinking_is_open) {
  constexpr std::string_view kTags[] = {"<think>", "</think>", "<answer>", "</answer>"};
  constexpr std::string_view kWhiteSpace = " \t\r\n";
  std::size_t end = 0;
  for (const std::string_view tag : kTags) {
    const bool is_given = thinking_is_open && tag == "<think>";
    const std::size_t at = text.find(tag);
    if (is_given != (at == std::string_view::npos)) {
      return std::string(is_given ? "a second " : "no ").append(tag);
    }
    if (is_given) {
      continue;
    }
    if (text.find(tag, at + 1) != std::string_view::npos) {
      return std::string("a second ").append(tag);
    }
    if (at < end) {
      return std::string("too early: ").append(tag);
    }
    const bool opens = tag[1] != '/';
    if (opens && text.substr(end, at - end).find_first_not_of(kWhiteSpace) != std::string::npos) {
      return std::string("text before ").append(tag);
    }
    end = at + tag.size();
  }
  const bool ends = text.find_first_not_of(kWhiteSpace, end) == std::string_view::npos;
  return ends ? "" : "text after </answer>";
}

}  // namespace

RewardValue FormatReward::score(const RewardInput& input) const {
  std::string reason = departure(input.completion, thinking_is_open_);
  const double value = reason.empty() ? 1.0 : 0.0;
  return {.value = value, .reason = std::move(reason)};
}

}  // namespace fathom::rl
