#include "data/chat_template.h"

#include <algorithm>
#include <span>
#include <utility>

#include "core/error.h"

namespace fathom::data {
namespace {

std::vector<Tokenizer::TextOrToken> make_marker(const Tokenizer& tokenizer,
                                                const std::optional<std::string>& marker,
                                                std::int32_t token, const char* name) {
  if (marker) {
    return tokenizer.parse(*marker);
  }
  if (token < 0) {
    throw ConfigError(concat("the tokenizer has no ", name, "-of-sentence token: set data.chat.",
                             name, " to the text that takes its place"));
  }
  return {{.text = "", .token = token}};
}

// The token that a marker begins with, else its text.
Tokenizer::TextOrToken beginning_of(const Tokenizer& tokenizer,
                                    const std::vector<Tokenizer::TextOrToken>& marker) {
  if (marker.front().token >= 0) {
    return marker.front();
  }
  Tokenizer::TextOrToken whole;
  for (const Tokenizer::TextOrToken& part : marker) {
    whole.text += part.token < 0 ? part.text : tokenizer.decode(std::span(&part.token, 1));
  }
  return whole;
}

// Those of the texts that are added tokens, once each, to be found wherever they stand.
std::vector<AddedToken> added_tokens_of(const Tokenizer& tokenizer,
                                        const std::vector<std::string>& texts) {
  std::vector<AddedToken> tokens;
  for (const std::string& text : texts) {
    const std::optional<std::int32_t> id = tokenizer.token_id(text);
    if (id && std::ranges::find(tokens, *id, &AddedToken::id) == tokens.end()) {
      tokens.push_back({.text = text, .id = *id});
    }
  }
  return tokens;
}

std::string spaces_at_end(const std::string& marker) {
  return marker.substr(marker.find_last_not_of(' ') + 1);  // npos + 1 is 0
}

}  // namespace

std::string without_spaces_at_end(const std::string& marker) {
  return marker.substr(0, marker.find_last_not_of(' ') + 1);
}

// Writes tokens, with the text between two of them in one piece.
class ChatTemplate::Writer {
 public:
  Writer(Encoder& encoder, std::vector<std::int32_t>& tokens)
      : encoder_(encoder), tokens_(tokens) {}

  void add(const Marker& marker) {
    for (const Tokenizer::TextOrToken& part : marker) {
      if (part.token < 0) {
        add(part.text);
      } else {
        finish();
        tokens_.push_back(part.token);
      }
    }
  }
  void add(const std::string& text) { text_ += text; }
  // Ends the text here.
  void finish() { encoder_.encode(std::exchange(text_, {}), AddedTokens::kAsText, tokens_); }

 private:
  Encoder& encoder_;
  std::vector<std::int32_t>& tokens_;
  std::string text_;
};

ChatTemplate::ChatTemplate(const Tokenizer& tokenizer, const ChatMarkers& markers)
    : begin_(make_marker(tokenizer, markers.begin, tokenizer.special_tokens().bos, "begin")),
      system_(tokenizer.parse(markers.system)),
      system_end_(tokenizer.parse(markers.system_end)),
      user_(tokenizer.parse(markers.user)),
      assistant_(tokenizer.parse(without_spaces_at_end(markers.assistant))),
      answer_begin_(spaces_at_end(markers.assistant)),
      end_(make_marker(tokenizer, markers.end, tokenizer.special_tokens().eos, "end")),
      answer_tokens_(added_tokens_of(tokenizer, markers.answer_tokens)) {
  if (end_.empty()) {
    throw ConfigError("data.chat.end is empty: an answer would never end");
  }
  end_of_answer_ = beginning_of(tokenizer, end_);
  check_answer_tokens(added_tokens_of(tokenizer, markers.answer_tokens));
}

void ChatTemplate::check_answer_tokens(const std::vector<AddedToken>& answer_tokens) const {
  for (const Marker* marker : {&begin_, &system_, &system_end_, &user_, &end_}) {
    for (const AddedToken& token : answer_tokens) {
      if (std::ranges::find(*marker, token.id, &Tokenizer::TextOrToken::token) != marker->end()) {
        throw ConfigError(concat("data.chat.answer_tokens has ", token.text,
                                 ", which is part of a marker: an answer could forge it"));
      }
    }
  }
}

ChatTokens ChatTemplate::encode(const Conversation& conversation, Encoder& encoder) const {
  ChatTokens chat;
  Writer writer(encoder, chat.tokens);
  writer.add(begin_);
  for (const Message& message : conversation) {
    switch (message.role) {
      case Role::kSystem:
        writer.add(system_);
        writer.add(message.content);
        writer.add(system_end_);
        break;
      case Role::kUser:
        writer.add(user_);
        writer.add(message.content);
        break;
      case Role::kAssistant:
        writer.add(assistant_);
        writer.finish();
        chat.is_response.resize(chat.tokens.size(), false);
        writer.add(answer_begin_);
        for (const AddedTokenFinder::Section& part : answer_tokens_.sections(message.content)) {
          writer.add({{.text = std::string(part.text), .token = part.token}});
        }
        writer.add(end_);
        writer.finish();
        chat.is_response.resize(chat.tokens.size(), true);
        break;
    }
  }
  writer.finish();
  chat.is_response.resize(chat.tokens.size(), false);
  return chat;
}

std::vector<std::int32_t> ChatTemplate::encode_prompt(const std::string& content,
                                                      Encoder& encoder) const {
  std::vector<std::int32_t> tokens;
  Writer writer(encoder, tokens);
  writer.add(begin_);
  writer.add(user_);
  writer.add(content);
  writer.add(assistant_);
  writer.finish();
  return tokens;
}

}  // namespace fathom::data
