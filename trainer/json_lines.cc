#include "trainer/json_lines.h"

#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "core/file.h"

namespace fathom::trainer {
namespace {

using Events = std::set<std::string, std::less<>>;

// Whether it is a line of a step up to `last_step` that is whole and does not say that the run has
// ended. Adds the event of the last step to `events`.
bool is_kept(std::string_view text, std::int64_t last_step, Events& events) {
  // A torn line is "discarded".
  const nlohmann::json line = nlohmann::json::parse(text, nullptr, false);
  if (!line.is_object() || !line.contains("step") || !line["step"].is_number_integer()) {
    return false;
  }
  const auto step = line["step"].get<std::int64_t>();
  const bool has_event = line.contains("event") && line["event"].is_string();
  const std::string event = has_event ? line["event"].get<std::string>() : "";
  if (step > last_step || event == "end") {
    return false;
  }
  if (has_event && step == last_step) {
    events.insert(event);
  }
  return true;
}

Events keep_lines_until(const std::filesystem::path& path, std::int64_t last_step) {
  Events events;
  if (!std::filesystem::exists(path)) {
    return events;
  }
  const std::string content = read_file(path);
  std::string kept;
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = content.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const std::string_view line = std::string_view(content).substr(begin, end - begin);
    if (is_kept(line, last_step, events)) {
      kept.append(line).push_back('\n');
    }
  }
  if (kept != content) {
    write_file_atomically(path, kept);
  }
  return events;
}

}  // namespace

JsonLines::JsonLines(std::filesystem::path path, std::optional<std::int64_t> resume_step)
    : events_(resume_step ? keep_lines_until(path, *resume_step) : Events()),
      file_(std::move(path), resume_step ? AppendFile::Start::kAtEnd : AppendFile::Start::kEmpty) {}

}  // namespace fathom::trainer
