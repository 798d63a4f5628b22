#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace fathom::rl {

// A question with an answer that can be checked.
struct Problem {
  std::string id;        // unique within a file
  std::string prompt;    // as the model reads it; what it writes follows at once
  std::string answer;    // the ground truth, as `verifier` reads it
  std::string verifier;  // rl/verifiers/verifier.h

  bool operator==(const Problem&) const = default;
};

// A template with the prompt in place of the first {prompt}, which must be in it.
std::string render_prompt(const std::string& prompt_template, const std::string& prompt);

// {"id": ..., "prompt": ..., "answer": ..., "verifier": ...}, without a newline.
std::string to_json_line(const Problem& problem);

// The problems of a file of JSON lines, in order. Blank lines are passed over, other fields than
// the four are left to their owners. Throws ConfigError naming file and line for a line that is no
// such object, an id that was there before, an empty prompt, an answer that the verifier cannot
// read, and for a file without problems; IoError when the file cannot be read.
std::vector<Problem> read_problems(const std::filesystem::path& file);

}  // namespace fathom::rl
