#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace fathom::rl {

// There is no third: a truth that cannot be compared is refused when its verifier is made.
enum class Verdict { kCorrect, kWrong };

// "correct", "wrong"
std::string_view to_text(Verdict verdict);

struct Verification {
  Verdict verdict = Verdict::kWrong;
  std::string reason;  // for the log of samples: the rule that decided

  bool operator==(const Verification&) const = default;
};

// Compares answers with one ground truth, which it has read at construction. Immutable and
// thread-safe; takes any bytes: linear time, bounded memory beside the text, no exception and no
// interpreter for what a model wrote. An answer that is not of the form asked for is wrong, and so
// is one beyond the verifier's limits: the truth is within them, or it was refused at construction.
class Verifier {
 public:
  virtual ~Verifier() = default;
  virtual Verification verify(std::string_view answer) const = 0;
};

// A verifier by its name in a problem:
//   number              exact integers, fractions, decimals, percent, points and intervals of them
//                       (number_verifier.h)
//   integers            a list of integers in order, separated by spaces or commas
//   countdown           an arithmetic expression with the value of `answer` that uses each number
//                       in it exactly once
//   countdown:3,5,7     the same, but it uses each number of the list at most once
//   knights_and_knaves  "Alice knight, Bob knave": who is what, in any order
//   text                the same words, whatever the white space between them
// Throws ConfigError for an unknown name, naming those that there are, and for an answer that the
// verifier cannot read.
std::unique_ptr<const Verifier> make_verifier(std::string_view name, std::string_view answer);

}  // namespace fathom::rl
