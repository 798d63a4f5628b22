#include "data/conversation_set.h"

#include <algorithm>
#include <span>

#include "core/error.h"
#include "data/best_fit.h"

namespace fathom::data {
namespace {

std::int32_t padding_token(const SpecialTokenIds& tokens) {
  return tokens.pad >= 0 ? tokens.pad : std::max(0, tokens.eos);
}

}  // namespace

ConversationSet::ConversationSet(const std::vector<std::filesystem::path>& files,
                                 const Tokenizer& tokenizer, const ChatTemplate& chat,
                                 std::int64_t sequence_length, TooLong too_long)
    : sequence_length_(sequence_length), padding_token_(padding_token(tokenizer.special_tokens())) {
  FATHOM_CHECK(!files.empty() && sequence_length >= 1, files.size(), " files, ", sequence_length,
               " tokens");
  Encoder encoder(tokenizer);
  for (const std::filesystem::path& file : files) {
    read_file(file, encoder, chat, too_long);
  }
  if (starts_.size() == 1) {
    throw ConfigError(counts_.conversations == 0
                          ? concat(files.front().string(), " holds no conversation")
                          : concat("none of the ", counts_.conversations, " conversations of ",
                                   files.front().string(),
                                   " has an answer within train.sequence_length (", sequence_length,
                                   ") tokens: it must be longer"));
  }
  std::vector<std::int64_t> sizes;
  for (std::size_t i = 0; i + 1 < starts_.size(); ++i) {
    sizes.push_back(starts_[i + 1] - starts_[i]);
  }
  sequences_ = pack_best_fit(sizes, sequence_length + 1);
}

void ConversationSet::read_file(const std::filesystem::path& file, Encoder& encoder,
                                const ChatTemplate& chat, TooLong too_long) {
  ConversationReader reader(file);
  for (Conversation conversation; reader.next(conversation);) {
    const ChatTokens tokens = chat.encode(conversation, encoder);
    // The first token of all is nobody's target.
    if (std::count(tokens.is_response.begin() + 1, tokens.is_response.end(), true) == 0) {
      throw ConfigError(concat(file.string(), ':', reader.line_number(),
                               ": nothing stands before its answer, so nothing can be learnt"));
    }
    add(tokens, too_long);
  }
}

void ConversationSet::add(const ChatTokens& chat, TooLong too_long) {
  ++counts_.conversations;
  std::vector<std::int64_t> marked(chat.tokens.begin(), chat.tokens.end());
  for (std::size_t i = 0; i < marked.size(); ++i) {
    marked[i] = 2 * marked[i] + (chat.is_response[i] ? 1 : 0);
  }
  marked.push_back(-1);  // the end of the conversation
  contents_.add(std::as_bytes(std::span(marked)));
  const std::int64_t room = sequence_length_ + 1;
  const bool is_too_long = std::ssize(chat.tokens) > room;
  const auto size = std::min(std::ssize(chat.tokens), room);
  const auto learnt =
      std::count(chat.is_response.begin() + 1, chat.is_response.begin() + size, true);
  if (is_too_long && (too_long == TooLong::kDrop || learnt == 0)) {
    ++counts_.dropped;
    return;
  }
  counts_.truncated += is_too_long ? 1 : 0;
  counts_.tokens += size;
  counts_.response_tokens += learnt;
  tokens_.insert(tokens_.end(), chat.tokens.begin(), chat.tokens.begin() + size);
  is_response_.insert(is_response_.end(), chat.is_response.begin(),
                      chat.is_response.begin() + size);
  starts_.push_back(std::ssize(tokens_));
}

void ConversationSet::read_padding(std::int64_t window_tokens, Window& window) const {
  window.tokens.assign(static_cast<std::size_t>(window_tokens), padding_token_);
  window.is_target.assign(static_cast<std::size_t>(window_tokens), false);
  window.document_starts.clear();
  window.size = 0;
  window.first_target = 0;
}

void ConversationSet::append(std::int64_t conversation, Window& window) const {
  const auto begin = starts_[static_cast<std::size_t>(conversation)];
  const auto end = starts_[static_cast<std::size_t>(conversation) + 1];
  std::copy(tokens_.begin() + begin, tokens_.begin() + end, window.tokens.begin() + window.size);
  std::copy(is_response_.begin() + begin, is_response_.begin() + end,
            window.is_target.begin() + window.size);
  window.size += end - begin;
}

void ConversationSet::read(std::int64_t sequence, std::int64_t window_tokens,
                           Window& window) const {
  read_padding(window_tokens, window);
  for (const std::int64_t conversation : sequences_[static_cast<std::size_t>(sequence)]) {
    if (window.size > 0) {
      window.document_starts.push_back(window.size);
    }
    append(conversation, window);
  }
  repeat_as_padding(window);
}

// A router's balance counts every token: one token over and over would be tens of times the load
// of its experts, and the selection biases would turn against them.
void ConversationSet::repeat_as_padding(Window& window) {
  const auto size = window.size;
  const std::vector<std::int64_t> starts = window.document_starts;
  for (auto begin = size; begin < std::ssize(window.tokens); begin += size) {
    window.document_starts.push_back(begin);
    for (const std::int64_t start : starts) {
      if (begin + start < std::ssize(window.tokens)) {
        window.document_starts.push_back(begin + start);
      }
    }
    const auto count = std::min(size, std::ssize(window.tokens) - begin);
    std::copy_n(window.tokens.begin(), count, window.tokens.begin() + begin);
  }
}

}  // namespace fathom::data
