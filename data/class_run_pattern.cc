#include "data/class_run_pattern.h"

#include <charconv>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "data/code_point_set.h"

namespace fathom::data {
namespace {

constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();

struct ClassRun {
  bool takes_space = false;  // one white space before the run, if there is one
  CodePointSet set;
  std::size_t max_count = 1;  // code points of a run
};

class ClassRunPattern final : public SplitPattern {
 public:
  explicit ClassRunPattern(ClassRun run)
      : run_(std::move(run)), first_bytes_(run_.set.first_bytes()) {}

  void for_each_match(std::string_view text, MatchVisitor visit) const override {
    std::size_t from = 0;
    for (std::size_t position = 0; position < text.size();) {
      // No byte within a sequence is one that a sequence begins with: bytes may be skipped one by
      // one.
      if (!begins_here(text, position)) {
        ++position;
        continue;
      }
      const std::size_t end = run_end(text, position);
      visit({run_.takes_space ? space_before(text, from, position) : position, end});
      from = end;
      position = end;
    }
  }

 private:
  bool begins_here(std::string_view text, std::size_t position) const noexcept {
    const auto byte = static_cast<std::uint8_t>(text[position]);
    return first_bytes_[byte] &&
           (byte < 0x80 || run_.set.contains(code_point_at(text, position).value));
  }

  std::size_t run_end(std::string_view text, std::size_t position) const noexcept {
    for (std::size_t count = 0; count < run_.max_count; ++count) {
      const Utf8CodePoint next = code_point_at(text, position);
      if (!run_.set.contains(next.value)) {
        break;
      }
      position += next.num_bytes;
    }
    return position;
  }

  // Where the white space begins that ends at `position`, if there is one at `from` or later; else
  // `position`.
  static std::size_t space_before(std::string_view text, std::size_t from,
                                  std::size_t position) noexcept {
    const Utf8CodePoint before = code_point_before(text, position);
    const bool is_free = position - before.num_bytes >= from;
    return is_free && is_white_space(before.value) ? position - before.num_bytes : position;
  }

  ClassRun run_;
  std::array<bool, 256> first_bytes_;
};

bool take(std::string_view& rest, std::string_view wanted) noexcept {
  if (!rest.starts_with(wanted)) {
    return false;
  }
  rest.remove_prefix(wanted.size());
  return true;
}

CodePointSet set_of_class(UnicodeClass wanted, const UnicodeClasses& classes) {
  CodePointSet set;
  for (std::uint32_t code_point = 0; code_point < kNumCodePoints; ++code_point) {
    if (classes.class_of(code_point) == wanted) {
      set.add(code_point, code_point);
    }
  }
  return set;
}

// The set of \p{X} at the beginning of `rest`, which is taken from it.
std::optional<CodePointSet> take_property(std::string_view& rest, const UnicodeClasses& classes) {
  using Name = std::pair<std::string_view, UnicodeClass>;
  for (const auto& [name, unicode_class] :
       {Name{"\\p{L}", UnicodeClass::kLetter}, Name{"\\p{N}", UnicodeClass::kNumber},
        Name{"\\p{M}", UnicodeClass::kMark}, Name{"\\p{P}", UnicodeClass::kPunctuation},
        Name{"\\p{S}", UnicodeClass::kSymbol}}) {
    if (take(rest, name)) {
      return set_of_class(unicode_class, classes);
    }
  }
  return std::nullopt;
}

// The characters between brackets; nothing where one has a meaning of its own.
std::optional<std::vector<std::uint32_t>> plain_characters(std::string_view content) {
  std::vector<std::uint32_t> characters;
  while (!content.empty()) {
    if (take(content, "\\r")) {
      characters.push_back('\r');
    } else if (take(content, "\\n")) {
      characters.push_back('\n');
    } else {
      const Utf8CodePoint next = code_point_at(content, 0);
      if (next.value == kInvalidCodePoint || next.value == '\\' || next.value == '[' ||
          next.value == '^' || next.value == '&') {
        return std::nullopt;
      }
      characters.push_back(next.value);
      content.remove_prefix(next.num_bytes);
    }
  }
  return characters;
}

// The set of [...] at the beginning of `rest`, which is taken from it.
std::optional<CodePointSet> take_brackets(std::string_view& rest) {
  const std::size_t end = rest.find(']');
  if (!rest.starts_with('[') || end == std::string_view::npos || end == 1) {
    return std::nullopt;
  }
  const auto characters = plain_characters(rest.substr(1, end - 1));
  if (!characters) {
    return std::nullopt;
  }
  rest.remove_prefix(end + 1);
  CodePointSet set;
  for (std::size_t i = 0; i < characters->size(); ++i) {
    const std::uint32_t first = (*characters)[i];
    const bool is_range = i + 2 < characters->size() && (*characters)[i + 1] == '-';
    const std::uint32_t last = is_range ? (*characters)[i + 2] : first;
    if (last < first) {
      return std::nullopt;
    }
    set.add(first, last);
    i += is_range ? 2 : 0;
  }
  return set;
}

// How many code points the rest of an expression lets a run have; nothing if it is something else.
std::optional<std::size_t> max_count_of(std::string_view rest) {
  if (rest.empty()) {
    return 1;
  }
  if (rest == "+") {
    return kNoLimit;
  }
  std::size_t count = 0;
  if (!take(rest, "{1,")) {
    return std::nullopt;
  }
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), count);
  const bool is_whole = error == std::errc{} && end + 1 == rest.data() + rest.size() && *end == '}';
  return is_whole && count > 0 ? std::optional(count) : std::nullopt;
}

}  // namespace

std::shared_ptr<const SplitPattern> make_class_run_pattern(const std::string& regex,
                                                           const UnicodeClasses& classes) {
  std::string_view rest = regex;
  ClassRun run;
  run.takes_space = take(rest, "\\s?");
  std::optional<CodePointSet> set = take_property(rest, classes);
  if (!set) {
    set = take_brackets(rest);
  }
  const std::optional<std::size_t> max_count = set ? max_count_of(rest) : std::nullopt;
  // \s?[C]{1,N} may take N + 1 characters where a white space is in C.
  if (!max_count || (run.takes_space && *max_count != kNoLimit)) {
    return nullptr;
  }
  run.set = std::move(*set);
  run.max_count = *max_count;
  return std::make_shared<ClassRunPattern>(std::move(run));
}

}  // namespace fathom::data
