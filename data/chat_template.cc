#include "data/chat_template.h"

#include "core/error.h"

namespace fathom::data {
namespace {

std::vector<std::int32_t> encode_marker(const Tokenizer& tokenizer,
                                        const std::optional<std::string>& marker,
                                        std::int32_t token, const char* name) {
  if (marker) {
    return tokenizer.encode(*marker, AddedTokens::kParse);
  }
  if (token < 0) {
    throw ConfigError(concat("the tokenizer has no ", name, "-of-sentence token: set data.chat.",
                             name, " to the text that takes its place"));
  }
  return {token};
}

}  // namespace

ChatTemplate::ChatTemplate(const Tokenizer& tokenizer, const ChatMarkers& markers)
    : begin_(encode_marker(tokenizer, markers.begin, tokenizer.special_tokens().bos, "begin")),
      system_(tokenizer.encode(markers.system)),
      user_(tokenizer.encode(markers.user)),
      assistant_(tokenizer.encode(markers.assistant)),
      end_(encode_marker(tokenizer, markers.end, tokenizer.special_tokens().eos, "end")) {
  if (end_.empty()) {
    throw ConfigError("data.chat.end is empty: an answer would never end");
  }
}

const std::vector<std::int32_t>& ChatTemplate::marker(Role role) const noexcept {
  switch (role) {
    case Role::kSystem:
      return system_;
    case Role::kUser:
      return user_;
    case Role::kAssistant:
      break;
  }
  return assistant_;
}

ChatTokens ChatTemplate::encode(const Conversation& conversation, Encoder& encoder) const {
  ChatTokens chat;
  std::vector<std::int32_t>& tokens = chat.tokens;
  tokens = begin_;
  for (const Message& message : conversation) {
    const std::vector<std::int32_t>& marker = this->marker(message.role);
    tokens.insert(tokens.end(), marker.begin(), marker.end());
    chat.is_response.resize(tokens.size(), false);
    encoder.encode(message.content, AddedTokens::kAsText, tokens);
    if (message.role == Role::kAssistant) {
      tokens.insert(tokens.end(), end_.begin(), end_.end());
      chat.is_response.resize(tokens.size(), true);
    }
  }
  chat.is_response.resize(tokens.size(), false);
  return chat;
}

std::vector<std::int32_t> ChatTemplate::encode_prompt(const std::string& content,
                                                      Encoder& encoder) const {
  std::vector<std::int32_t> tokens = begin_;
  tokens.insert(tokens.end(), user_.begin(), user_.end());
  encoder.encode(content, AddedTokens::kAsText, tokens);
  tokens.insert(tokens.end(), assistant_.begin(), assistant_.end());
  return tokens;
}

}  // namespace fathom::data
