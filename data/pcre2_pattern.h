#pragma once

#include <memory>
#include <string>

#include "data/split_pattern.h"

namespace fathom::data {

// Any expression, run by PCRE2 with its just-in-time compiler where the machine has one, and with
// limits on the steps and the memory that a match may take at one place of a text. A byte that
// begins no well-formed UTF-8 sequence is a character without any property, as everywhere. The
// classes of characters are of PCRE2's Unicode version (10.42: 14.0), which the scanners' may be
// ahead of. Throws ConfigError for an expression that PCRE2 refuses, that pcre2_syntax.h refuses,
// or that matches an empty text; for_each_match() throws it when a text takes the expression beyond
// a limit. All errors name the expression.
std::shared_ptr<const SplitPattern> make_pcre2_pattern(const std::string& regex);

}  // namespace fathom::data
