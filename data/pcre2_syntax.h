#pragma once

#include <string>
#include <string_view>

namespace fathom::data {

// `regex`, in the syntax of Oniguruma, as PCRE2 understands it in UTF, UCP and MULTILINE mode:
// white space is spelt out, as PCRE2's \s has U+180E too. Throws ConfigError, naming the
// expression, for what PCRE2 would take in another sense and what no tokenizer needs: \h, \v, \w,
// \b, set operations within brackets, scripts, named groups, options but (?i).
std::string to_pcre2_syntax(std::string_view regex);

}  // namespace fathom::data
