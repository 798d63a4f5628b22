#include "cli/text_stream.h"

#include <span>
#include <string_view>

#include "cli/prompt_file.h"

namespace fathom::cli {

std::string TextStream::next(const trainer::Completion& completion, bool is_finished) {
  std::span<const std::int32_t> tokens = completion.tokens;
  if (!tokens.empty() && tokens.back() == tokenizer_->special_tokens().eos) {
    tokens = tokens.first(tokens.size() - 1);
  }
  held_back_ += tokenizer_->decode(tokens.subspan(num_decoded_));
  num_decoded_ = tokens.size();
  // A stop string begins in what was held back: the rest could not become one.
  std::string_view ready = std::string_view(held_back_).substr(0, stop_->find(held_back_));
  if (!is_finished) {
    ready = whole_characters(ready.substr(0, ready.size() - stop_->num_undecided(ready)));
  }
  std::string shown(ready);
  held_back_.erase(0, shown.size());
  return shown;
}

}  // namespace fathom::cli
