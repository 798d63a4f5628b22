#include "cli/text_stream.h"

#include <span>
#include <string_view>

#include "cli/prompt_file.h"

namespace fathom::cli {

std::string TextStream::next(const trainer::Completion& completion, bool is_finished) {
  const std::span<const std::int32_t> tokens = trainer::tokens_of_text(completion, *end_);
  held_back_ += tokenizer_->decode(tokens.subspan(num_decoded_));
  num_decoded_ = tokens.size();
  // A stop string begins in what was held back: the rest could not become one.
  std::string_view ready =
      std::string_view(held_back_).substr(0, end_->strings.find(held_back_).begin);
  if (!is_finished) {
    ready = whole_characters(ready.substr(0, ready.size() - end_->strings.num_undecided(ready)));
  }
  std::string shown(ready);
  held_back_.erase(0, shown.size());
  return shown;
}

}  // namespace fathom::cli
