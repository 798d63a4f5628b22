#include "rl/verifiers/extract.h"

#include <algorithm>
#include <array>

namespace fathom::rl {
namespace {

constexpr std::string_view kWhiteSpace = " \t\r\n";
constexpr std::string_view kThink = "<think>";
constexpr std::string_view kEndThink = "</think>";
constexpr std::string_view kAnswer = "<answer>";
constexpr std::string_view kEndAnswer = "</answer>";

std::string_view trim(std::string_view text) {
  const std::size_t begin = std::min(text.find_first_not_of(kWhiteSpace), text.size());
  const std::size_t end = text.find_last_not_of(kWhiteSpace);
  return text.substr(begin, end == std::string_view::npos ? 0 : end + 1 - begin);
}

// What follows the thoughts; nothing when they do not end.
std::optional<std::string_view> after_thinking(std::string_view text, bool thinking_is_open) {
  const std::size_t end = text.rfind(kEndThink);
  if (end == std::string_view::npos) {
    const bool is_open = thinking_is_open || text.find(kThink) != std::string_view::npos;
    return is_open ? std::nullopt : std::optional(text);
  }
  const std::string_view rest = text.substr(end + kEndThink.size());
  return rest.find(kThink) == std::string_view::npos ? std::optional(rest) : std::nullopt;
}

std::optional<std::string_view> last_answer_pair(std::string_view text) {
  std::optional<std::string_view> pair;
  std::size_t open = std::string_view::npos;
  for (std::size_t at = text.find('<'); at != std::string_view::npos; at = text.find('<', at + 1)) {
    if (text.substr(at).starts_with(kAnswer)) {
      open = at + kAnswer.size();
    } else if (open != std::string_view::npos && text.substr(at).starts_with(kEndAnswer)) {
      pair = text.substr(open, at - open);
      open = std::string_view::npos;
    }
  }
  return pair;
}

// The byte behind the brace that closes the one at `open`; npos when none does.
std::size_t end_of_braces(std::string_view text, std::size_t open) {
  std::size_t depth = 0;
  for (std::size_t at = open; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == '{') {
      ++depth;
    } else if (text[at] == '}' && --depth == 0) {
      return at + 1;
    }
  }
  return std::string_view::npos;
}

struct Box {
  std::size_t begin = 0;  // of the command
  std::size_t end = 0;
  std::string_view content;
};

// The first box from byte `from` on. end == npos: it is not closed.
std::optional<Box> find_box(std::string_view text, std::size_t from) {
  for (std::size_t at = text.find('\\', from); at != std::string_view::npos;
       at = text.find('\\', at + 1)) {
    for (const std::string_view command : {"\\boxed", "\\fbox"}) {
      if (!text.substr(at).starts_with(command)) {
        continue;
      }
      const std::size_t argument =
          std::min(text.find_first_not_of(kWhiteSpace, at + command.size()), text.size());
      if (argument < text.size() && text[argument] == '{') {
        const std::size_t end = end_of_braces(text, argument);
        const std::size_t size = end == std::string_view::npos ? 0 : end - argument - 2;
        return Box{at, end, text.substr(argument + 1, size)};
      }
      // Without braces: the word up to white space or the end of a formula.
      const std::size_t end = std::min(text.find_first_of(" \t\r\n$,;", argument), text.size());
      return Box{at, end, text.substr(argument, end - argument)};
    }
  }
  return std::nullopt;
}

// Whether the text between two boxes makes them one list.
bool joins(std::string_view between) {
  constexpr std::array<std::string_view, 5> kJoints{",", "and", "or", ", and", ", or"};
  std::string text;  // without dollar signs, and no longer than a joint can be
  for (const char c : trim(between).substr(0, 16)) {
    if (c != '$') {
      text += c;
    }
  }
  return between.size() <= 16 &&
         std::find(kJoints.begin(), kJoints.end(), trim(text)) != kJoints.end();
}

enum class BoxesFound { kNone, kClosed, kCutOff };

// The last box, or the last ones that are one list, into `answer`.
BoxesFound last_boxes(std::string_view text, std::string& answer) {
  std::optional<Box> last;
  for (std::optional<Box> box = find_box(text, 0); box; box = find_box(text, last->end)) {
    if (box->end == std::string_view::npos) {
      return BoxesFound::kCutOff;
    }
    if (last && joins(text.substr(last->end, box->begin - last->end))) {
      answer += ", ";  // with a space: 1 and 234 are not 1,234
    } else {
      answer.clear();
    }
    answer += trim(box->content);
    last = box;
  }
  return last ? BoxesFound::kClosed : BoxesFound::kNone;
}

std::optional<Extraction> tagged(std::string_view text, bool& is_cut_off) {
  const std::optional<std::string_view> pair = last_answer_pair(text);
  std::string answer;
  const BoxesFound boxes = last_boxes(pair.value_or(text), answer);
  is_cut_off = boxes == BoxesFound::kCutOff;
  if (boxes == BoxesFound::kClosed) {
    return Extraction{std::move(answer), pair ? "answer tag, box" : "box"};
  }
  return pair && !is_cut_off ? std::optional(Extraction{std::string(trim(*pair)), "answer tag"})
                             : std::nullopt;
}

// What follows `mark` in the last line that has it, without Markdown around it.
std::optional<Extraction> last_marked_line(std::string_view text, std::string_view mark,
                                           std::string_view rule) {
  const std::size_t at = text.rfind(mark);
  if (at == std::string_view::npos) {
    return std::nullopt;
  }
  std::string_view line = text.substr(at + mark.size());
  line = line.substr(0, line.find('\n'));
  line.remove_prefix(std::min(line.find_first_not_of("*_ \t"), line.size()));
  return Extraction{std::string(trim(line)), rule};
}

std::optional<Extraction> last_number(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789";
  const std::size_t last = text.find_last_of(kDigits);
  if (last == std::string_view::npos) {
    return std::nullopt;
  }
  const std::size_t before = text.find_last_not_of("0123456789.,/", last);
  std::size_t begin = before == std::string_view::npos ? 0 : before + 1;
  begin = text.find_first_of(kDigits, begin);
  const bool is_negative = begin > 0 && text[begin - 1] == '-';
  begin -= is_negative ? 1 : 0;
  return Extraction{std::string(text.substr(begin, last + 1 - begin)), "last number"};
}

}  // namespace

std::optional<Extraction> extract_answer(std::string_view completion,
                                         const ExtractionOptions& options) {
  const std::optional<std::string_view> text = after_thinking(completion, options.thinking_is_open);
  if (!text) {
    return std::nullopt;
  }
  if (options.mode == ExtractionMode::kWhole) {
    return Extraction{std::string(trim(*text)), "whole"};
  }
  bool is_cut_off = false;
  std::optional<Extraction> found = tagged(*text, is_cut_off);
  if (found || is_cut_off || options.mode == ExtractionMode::kTagged) {
    return found;
  }
  for (const std::string_view mark : {"Answer:", "answer:", "####"}) {
    found = last_marked_line(*text, mark, "answer line");
    if (found) {
      return found;
    }
  }
  return last_number(*text);
}

}  // namespace fathom::rl
