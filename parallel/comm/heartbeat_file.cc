#include "parallel/comm/heartbeat_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <map>
#include <sstream>

#include "core/error.h"

namespace fathom::parallel {
namespace {

constexpr std::size_t kLineLength = 512;

std::string without_spaces(std::string text) {
  std::replace(text.begin(), text.end(), ' ', '_');
  return text;
}

}  // namespace

std::filesystem::path heartbeat_path(const std::filesystem::path& folder, int rank) {
  return folder / concat("rank-", rank);
}

std::string to_line(const HeartbeatRecord& record) {
  return concat("rank=", record.rank, " job=", record.job_id, " host=", without_spaces(record.host),
                " pid=", record.pid, " beat=", record.beat, " ended=", record.has_ended,
                " idle_ms=", record.idle_ms, " step=", record.step, " waiting=", record.is_waiting,
                " waits_for=", record.waits_for, " number=", record.number,
                " operation=", without_spaces(record.operation),
                " group=", without_spaces(record.group), " phase=", record.phase);
}

std::optional<HeartbeatRecord> from_line(const std::string& line) {
  std::map<std::string, std::string> fields;
  const auto phase = line.find(" phase=");
  std::istringstream words(line.substr(0, phase));
  for (std::string word; words >> word;) {
    const auto equals = word.find('=');
    if (equals == std::string::npos) {
      return std::nullopt;
    }
    fields[word.substr(0, equals)] = word.substr(equals + 1);
  }
  if (phase == std::string::npos || fields.size() != 13) {
    return std::nullopt;
  }
  try {
    HeartbeatRecord record;
    record.rank = std::stoi(fields.at("rank"));
    record.job_id = std::stoull(fields.at("job"));
    record.host = fields.at("host");
    record.pid = std::stoi(fields.at("pid"));
    record.beat = std::stoull(fields.at("beat"));
    record.has_ended = fields.at("ended") == "1";
    record.idle_ms = std::stoll(fields.at("idle_ms"));
    record.step = std::stoll(fields.at("step"));
    record.is_waiting = fields.at("waiting") == "1";
    record.waits_for = std::stoi(fields.at("waits_for"));
    record.number = std::stoull(fields.at("number"));
    record.operation = fields.at("operation");
    record.group = fields.at("group");
    record.phase = line.substr(phase + std::string(" phase=").size());
    record.phase.erase(record.phase.find_last_not_of(" \n") + 1);
    return record;
  } catch (const std::exception&) {  // a number that is none, a field that is missing
    return std::nullopt;
  }
}

bool write_heartbeat(const std::filesystem::path& folder, const HeartbeatRecord& record) noexcept {
  try {
    std::string line = to_line(record);
    line.resize(kLineLength - 1, ' ');
    line += '\n';
    const int file =
        open(heartbeat_path(folder, record.rank).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0) {
      return false;
    }
    const ssize_t written = pwrite(file, line.data(), line.size(), 0);
    return close(file) == 0 && written == static_cast<ssize_t>(line.size());
  } catch (const std::exception&) {
    return false;
  }
}

std::optional<HeartbeatRecord> read_heartbeat(const std::filesystem::path& folder, int rank) {
  const int file = open(heartbeat_path(folder, rank).c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return std::nullopt;
  }
  std::array<char, kLineLength> line{};
  const ssize_t length = pread(file, line.data(), line.size(), 0);
  close(file);
  if (length != static_cast<ssize_t>(line.size()) || line.back() != '\n') {
    return std::nullopt;
  }
  return from_line(std::string(line.data(), line.size()));
}

}  // namespace fathom::parallel
