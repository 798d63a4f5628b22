#include "parallel/comm/agree.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "core/error.h"
#include "parallel/comm/gather_bytes.h"

namespace fathom::parallel {
namespace {

enum class Outcome : std::int64_t { kDone, kConfigError, kIoError, kDeviceError, kOtherError };

struct Report {
  Outcome outcome = Outcome::kDone;
  std::string message;
  int system_error = 0;  // of kIoError
};

Report report_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const CommError&) {
    throw;
  } catch (const ConfigError& error) {
    return {.outcome = Outcome::kConfigError, .message = error.message()};
  } catch (const IoError& error) {
    return {.outcome = Outcome::kIoError,
            .message = error.message(),
            .system_error = error.system_error()};
  } catch (const DeviceError& error) {
    return {.outcome = Outcome::kDeviceError, .message = error.message()};
  } catch (const std::exception& error) {
    return {.outcome = Outcome::kOtherError, .message = error.what()};
  }
  return {};
}

// What one rank tells the others at once; the message follows from one of them.
struct Summary {
  std::int64_t outcome = 0;
  std::int64_t message_hash = 0;
  std::int64_t system_error = 0;
  bool operator==(const Summary&) const = default;
  bool is_failure() const { return outcome != static_cast<std::int64_t>(Outcome::kDone); }
};

std::vector<Summary> gather_summaries(const Report& mine, Communicator& world) {
  const std::array<std::int64_t, 3> sent{
      static_cast<std::int64_t>(mine.outcome),
      static_cast<std::int64_t>(std::hash<std::string>()(mine.message)), mine.system_error};
  std::vector<std::int64_t> numbers(sent.size() * static_cast<std::size_t>(world.world_size()));
  world.all_gather_integers(sent, numbers);
  std::vector<Summary> summaries;
  for (std::size_t i = 0; i < numbers.size(); i += sent.size()) {
    summaries.push_back({numbers[i], numbers[i + 1], numbers[i + 2]});
  }
  return summaries;
}

// "rank 2: disk on fire (and 1 more of 4 ranks)"
std::string with_ranks(const std::string& message, const std::vector<Summary>& summaries,
                       std::size_t first) {
  if (std::count(summaries.begin(), summaries.end(), summaries[first]) == std::ssize(summaries)) {
    return message;
  }
  const auto num_failed = std::count_if(summaries.begin(), summaries.end(),
                                        [](const Summary& rank) { return rank.is_failure(); });
  return concat("rank ", first, ": ", message,
                num_failed == 1
                    ? ""
                    : concat(" (and ", num_failed - 1, " more of ", summaries.size(), " ranks)"));
}

[[noreturn]] void throw_shared(const Summary& failed, const std::string& message) {
  switch (static_cast<Outcome>(failed.outcome)) {
    case Outcome::kConfigError:
      throw Shared<ConfigError>(message);
    case Outcome::kIoError:
      throw Shared<IoError>(message, static_cast<int>(failed.system_error));
    case Outcome::kDeviceError:
      throw Shared<DeviceError>(message);
    default:
      throw Shared<InternalError>(message);
  }
}

}  // namespace

void agree(Communicator& world, const std::function<void()>& body) {
  const Report mine = report_of(body);
  const std::vector<Summary> summaries = gather_summaries(mine, world);
  const auto failed = std::find_if(summaries.begin(), summaries.end(),
                                   [](const Summary& rank) { return rank.is_failure(); });
  if (failed == summaries.end()) {
    return;
  }
  const auto first = static_cast<std::size_t>(failed - summaries.begin());
  const std::string message = broadcast_bytes(mine.message, static_cast<int>(first), world);
  throw_shared(*failed, with_ranks(message, summaries, first));
}

}  // namespace fathom::parallel
