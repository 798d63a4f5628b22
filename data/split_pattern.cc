#include "data/split_pattern.h"

#include "data/class_run_pattern.h"
#include "data/pcre2_pattern.h"
#include "data/word_patterns.h"

namespace fathom::data {
namespace {

// DeepSeek's files have the characters themselves where others have \r and \n.
std::string with_escaped_newlines(const std::string& regex) {
  std::string escaped;
  bool is_escaped = false;  // by a backslash before it, which then serves
  for (const char character : regex) {
    const bool is_newline = character == '\r' || character == '\n';
    if (is_newline && !is_escaped) {
      escaped += '\\';
    }
    escaped += character == '\r' ? 'r' : character == '\n' ? 'n' : character;
    is_escaped = character == '\\' && !is_escaped;
  }
  return escaped;
}

}  // namespace

std::shared_ptr<const SplitPattern> make_split_pattern(
    const std::string& regex, const std::shared_ptr<const UnicodeClasses>& classes) {
  const std::string escaped = with_escaped_newlines(regex);
  if (auto words = make_word_pattern(escaped, classes)) {
    return words;
  }
  if (auto run = make_class_run_pattern(escaped, *classes)) {
    return run;
  }
  return make_pcre2_pattern(escaped);
}

}  // namespace fathom::data
