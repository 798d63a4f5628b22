#pragma once

#include <memory>
#include <string>

#include "data/split_pattern.h"

namespace fathom::data {

// A scanner for a run of one class of characters: CLASS, CLASS+, \s?CLASS+ or CLASS{1,N}, where
// CLASS is \p{L}, \p{N}, \p{M}, \p{P}, \p{S}, or characters and ranges in brackets, such as [0-9].
// nullptr for any other expression. Newlines of `regex` are escaped.
std::shared_ptr<const SplitPattern> make_class_run_pattern(const std::string& regex,
                                                           const UnicodeClasses& classes);

}  // namespace fathom::data
