#pragma once

#include <string>
#include <string_view>

namespace fathom::rl {

// An answer as people and LaTeX write it, in one form: Unicode minus, full-width characters, x and
// division signs, no-break spaces in ASCII; \dfrac, \tfrac and \cfrac as \frac; \times, \cdot, \div
// as * and /; spacing and text commands, \left, \right, dollar signs, degrees and Markdown emphasis
// around the whole dropped; white space as single spaces, none at the ends; no dot at the end.
// Linear time; what it does not know stays as it is.
std::string normalize(std::string_view answer);

}  // namespace fathom::rl
