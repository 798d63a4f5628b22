#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace fathom::rl {

enum class ExtractionMode {
  kTagged,  // <answer>...</answer> or \boxed{...}: for training
  kWhole,   // all of it, for models that write nothing but the answer
  // As kTagged; without either the last line "Answer: ..." or "#### ...", then the last number. For
  // evaluation: in training a model would learn to leave numbers about.
  kLenient,
};

struct ExtractionOptions {
  ExtractionMode mode = ExtractionMode::kTagged;
  bool thinking_is_open = false;  // the prompt ends with <think>: without </think> no answer
};

struct Extraction {
  std::string answer;
  std::string_view rule;  // "answer tag", "box", "answer tag, box", "whole", "answer line", ...
};

// The answer in what a model wrote, in any mode after the last </think>; nothing when a <think> is
// not closed. The last well-formed <answer> pair counts, within it the last box if there is one;
// without a pair the last box of all. Boxes are \boxed{...} and \fbox{...} with their braces
// matched (\{ and \} are text), \boxed5 and \boxed 5; boxes joined by "and", "or" or a comma alone
// are one answer, "1, 2". A box that is not closed was cut off, so that there is no answer. Linear
// time.
std::optional<Extraction> extract_answer(std::string_view completion,
                                         const ExtractionOptions& options = {});

}  // namespace fathom::rl
