#pragma once

#include <string>
#include <string_view>

namespace fathom::rl {

// An answer as people and LaTeX write it, in one form: Unicode minus, full-width characters, x and
// division signs, no-break spaces in ASCII; \dfrac, \tfrac and \cfrac as \frac; \times, \cdot, \div
// as * and /; text commands, \left and \right dropped; dollar signs, \( \) \[ \], degrees and
// spacing commands as white space, which becomes single spaces, none at the ends; no Markdown
// emphasis around the whole and no dot at the end. Linear time; what it does not know stays as it
// is.
std::string normalize(std::string_view answer);

}  // namespace fathom::rl
