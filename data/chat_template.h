#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/added_token.h"
#include "data/conversation.h"
#include "data/tokenizer.h"

namespace fathom::data {

// What stands around the messages of a conversation. A marker may be empty. What it has of the
// texts of added tokens is these tokens; the rest of it is text, encoded together with the messages
// beside it, up to the next token or answer. The defaults are DeepSeek-V3's.
struct ChatMarkers {
  std::optional<std::string> begin = {};  // before everything; absent: the begin-of-sentence token
  std::string system = {};                // before the message of the system
  std::string system_end = {};            // after it
  std::string user = "<｜User｜>";
  // The spaces at its end begin the answer: most tokenizers have them in one token with its first
  // word. A prompt ends before them.
  std::string assistant = "<｜Assistant｜>";
  // After each message of the assistant; absent: the end-of-sentence token.
  std::optional<std::string> end = {};
  // Texts that are tokens in messages of the assistant, those of them that the tokenizer has as
  // added tokens.
  std::vector<std::string> answer_tokens = {};
};

// A conversation as the model reads it.
struct ChatTokens {
  std::vector<std::int32_t> tokens;
  std::vector<bool> is_response;  // of a message of the assistant, or of its end: what is learnt
};

// A marker without the spaces at its end, with which the text that follows it begins.
std::string without_spaces_at_end(const std::string& marker);

// Turns conversations into tokens:
//   begin  [system message system_end]  user message  assistant message end  user message ...
// where "user message" is the marker and the content. Contents are text, whatever they hold: no one
// forges an end of sentence. Only those of the assistant may hold tokens, the answer tokens, so
// that what a model wrote is learnt as the tokens that it wrote. Immutable: may be shared by
// threads.
class ChatTemplate {
 public:
  // Throws ConfigError when the tokenizer lacks the token that an absent marker stands for, when
  // the end is empty (an answer would never end), and for an answer token that is in another marker
  // than the assistant's.
  ChatTemplate(const Tokenizer& tokenizer, const ChatMarkers& markers);

  // `encoder` is of the same tokenizer.
  ChatTokens encode(const Conversation& conversation, Encoder& encoder) const;
  // A user's message and the marker of the answer that is asked for.
  std::vector<std::int32_t> encode_prompt(const std::string& content, Encoder& encoder) const;
  // What shows that an answer is over: the token that its end begins with, else the text of the
  // end.
  const Tokenizer::TextOrToken& end_of_answer() const noexcept { return end_of_answer_; }

 private:
  using Marker = std::vector<Tokenizer::TextOrToken>;
  class Writer;

  void check_answer_tokens(const std::vector<AddedToken>& answer_tokens) const;

  Marker begin_;
  Marker system_;
  Marker system_end_;
  Marker user_;
  Marker assistant_;
  std::string answer_begin_;  // the spaces at the end of the assistant's marker
  Marker end_;
  AddedTokenFinder answer_tokens_;
  Tokenizer::TextOrToken end_of_answer_;
};

}  // namespace fathom::data
