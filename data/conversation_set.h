#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "data/chat_template.h"
#include "data/checksum.h"
#include "data/micro_batch.h"

namespace fathom::data {

// What becomes of a conversation that no sequence has room for.
enum class TooLong {
  kTruncate,  // its beginning is learnt; where that holds no answer, it is dropped
  kDrop,
};

// A file's conversations, counted.
struct ConversationCounts {
  std::int64_t conversations = 0;  // read
  std::int64_t truncated = 0;
  std::int64_t dropped = 0;
  std::int64_t tokens = 0;           // of those kept
  std::int64_t response_tokens = 0;  // of those kept: what is learnt
};

// Conversations in memory (a little over 4 bytes a token), packed whole into sequences: as few as
// best fit needs, none cut at the end of one. A sequence has room for sequence_length + 1 tokens of
// conversations, since the last token is a target alone. All const functions may be called by
// several threads.
class ConversationSet {
 public:
  // Reads the files, tokenizes and packs. Throws ConfigError and IoError (conversation.h),
  // ConfigError when no conversation is left.
  ConversationSet(const std::vector<std::filesystem::path>& files, const Tokenizer& tokenizer,
                  const ChatTemplate& chat, std::int64_t sequence_length, TooLong too_long);

  std::int64_t num_sequences() const noexcept { return std::ssize(sequences_); }
  const ConversationCounts& counts() const noexcept { return counts_; }
  // XXH3-64 of all conversations read, as tokens, of whatever length.
  std::uint64_t contents() const { return contents_.value(); }
  // The conversations of one sequence, each isolated from the others, with the answers as the only
  // targets. What is left of the sequence is padded with the same ones again, without targets.
  // window_tokens: see Window.
  void read(std::int64_t sequence, std::int64_t window_tokens, Window& window) const;
  // A sequence without any conversation, for evaluation.
  void read_padding(std::int64_t window_tokens, Window& window) const;

 private:
  void read_file(const std::filesystem::path& file, Encoder& encoder, const ChatTemplate& chat,
                 TooLong too_long);
  void add(const ChatTokens& chat, TooLong too_long);
  void append(std::int64_t conversation, Window& window) const;
  static void repeat_as_padding(Window& window);

  std::int64_t sequence_length_;
  std::int32_t padding_token_;
  ConversationCounts counts_;
  Checksum64 contents_;
  std::vector<std::int32_t> tokens_;                  // of all conversations, one after another
  std::vector<bool> is_response_;                     // of each token
  std::vector<std::int64_t> starts_ = {0};            // [conversations + 1], in tokens_
  std::vector<std::vector<std::int64_t>> sequences_;  // the conversations of each, ascending
};

}  // namespace fathom::data
