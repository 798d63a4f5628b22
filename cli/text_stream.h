#pragma once

#include <cstddef>
#include <string>

#include "data/tokenizer.h"
#include "trainer/generation/sequence.h"
#include "trainer/generation/text.h"

namespace fathom::cli {

// The text of one completion as it grows: whole characters, and nothing that a stop string may yet
// take away. Decodes each token once.
class TextStream {
 public:
  // Both outlive it.
  TextStream(const data::Tokenizer& tokenizer, const trainer::CompletionEnd& end)
      : tokenizer_(&tokenizer), end_(&end) {}

  // What may be shown of the completion beyond what was returned before; `is_finished`: all of it
  // but the token or string that ended it.
  std::string next(const trainer::Completion& completion, bool is_finished);

 private:
  const data::Tokenizer* tokenizer_;
  const trainer::CompletionEnd* end_;
  std::size_t num_decoded_ = 0;  // tokens
  std::string held_back_;        // their text that was not shown yet
};

}  // namespace fathom::cli
