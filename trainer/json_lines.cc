#include "trainer/json_lines.h"

#include <cerrno>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "core/file.h"

namespace fathom::trainer {
namespace {

// A line of a step up to `last_step` that is whole and does not say that the run has ended.
bool is_kept(std::string_view text, std::int64_t last_step) {
  const nlohmann::json line =
      nlohmann::json::parse(text, nullptr, false);  // a torn line is "discarded"
  if (!line.is_object() || !line.contains("step") || !line["step"].is_number_integer()) {
    return false;
  }
  const bool is_end = line.contains("event") && line["event"] == "end";
  return line["step"].get<std::int64_t>() <= last_step && !is_end;
}

void keep_lines_until(const std::filesystem::path& path, std::int64_t last_step) {
  if (!std::filesystem::exists(path)) {
    return;
  }
  const std::string content = read_file(path);
  std::string kept;
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = content.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const std::string_view line = std::string_view(content).substr(begin, end - begin);
    if (is_kept(line, last_step)) {
      kept.append(line).push_back('\n');
    }
  }
  if (kept != content) {
    write_file_atomically(path, kept);
  }
}

}  // namespace

JsonLines::JsonLines(std::filesystem::path path, std::optional<std::int64_t> resume_step)
    : path_(std::move(path)) {
  if (resume_step) {
    keep_lines_until(path_, *resume_step);
  }
  out_.open(path_, std::ios::binary | (resume_step ? std::ios::app : std::ios::trunc));
  if (!out_) {
    throw_io_error("open", path_, errno);
  }
}

void JsonLines::append(const std::string& object) {
  out_ << object << '\n' << std::flush;
  if (!out_) {
    throw_io_error("write", path_, errno);
  }
}

}  // namespace fathom::trainer
