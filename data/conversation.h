#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/line_reader.h"

namespace fathom::data {

enum class Role { kSystem, kUser, kAssistant };

struct Message {
  Role role = Role::kUser;
  std::string content;
};

// At least one message, at least one of them of the assistant; of the system at most the first.
using Conversation = std::vector<Message>;

// The conversations of a file of JSON lines, in order. A line is one of
//   {"messages": [{"role": "system" | "user" | "assistant", "content": "..."}, ...]}
//   {"prompt": "...", "completion": "..."}     a user's message and the answer to it
// with any other fields beside them. Blank lines are passed over.
class ConversationReader {
 public:
  // Throws IoError when the file cannot be opened.
  explicit ConversationReader(const std::filesystem::path& file);

  // False at the end of the file. Throws ConfigError naming file, line and field for a line that is
  // not as above; IoError.
  bool next(Conversation& conversation);
  // Of the conversation that next() gave last, from 1.
  std::int64_t line_number() const noexcept { return line_number_; }

 private:
  std::filesystem::path file_;
  LineReader reader_;
  std::string line_;
  std::int64_t line_number_ = 0;
};

}  // namespace fathom::data
