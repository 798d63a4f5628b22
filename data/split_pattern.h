#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "data/unicode_classes.h"

namespace fathom::data {

// Bytes [begin, end) of a text.
struct TextRange {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// Refers to a callable that is called with a match; for the time of one call.
class MatchVisitor {
 public:
  template <class Visit>
    requires(!std::is_same_v<std::remove_cvref_t<Visit>, MatchVisitor>)
  MatchVisitor(Visit&& visit) noexcept
      : object_(&visit), call_([](const void* object, TextRange match) {
          (*static_cast<const std::remove_reference_t<Visit>*>(object))(match);
        }) {}

  void operator()(TextRange match) const { call_(object_, match); }

 private:
  const void* object_;
  void (*call_)(const void* object, TextRange match);
};

// A regular expression by which texts are cut. Immutable: may be shared by threads.
class SplitPattern {
 public:
  SplitPattern() = default;
  virtual ~SplitPattern() = default;
  SplitPattern(const SplitPattern&) = delete;
  SplitPattern& operator=(const SplitPattern&) = delete;

  // visit(match) for each match in order: leftmost first, none overlap, none is empty.
  virtual void for_each_match(std::string_view text, MatchVisitor visit) const = 0;
};

// The expression as it stands in a tokenizer.json, in the syntax of Oniguruma, which the
// `tokenizers` package runs. The expressions of GPT-2, Llama-3, Qwen2 and DeepSeek V2 and V3 have
// scanners that take linear time whatever the text; so has every plain run of a class of
// characters (class_run_pattern.h). Any other is run by PCRE2 (pcre2_pattern.h). Throws ConfigError
// for an expression that is malformed or not supported.
std::shared_ptr<const SplitPattern> make_split_pattern(
    const std::string& regex, const std::shared_ptr<const UnicodeClasses>& classes);

}  // namespace fathom::data
