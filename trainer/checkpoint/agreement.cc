#include "trainer/checkpoint/agreement.h"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "core/error.h"
#include "parallel/comm/gather_bytes.h"

namespace fathom::trainer {
namespace {

enum class Outcome : std::int64_t { kDone, kConfigError, kIoError, kDeviceError, kOtherError };

struct Report {
  Outcome outcome = Outcome::kDone;
  std::string message;
};

Report report_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const CommError&) {
    throw;
  } catch (const ConfigError& error) {
    return {.outcome = Outcome::kConfigError, .message = error.message()};
  } catch (const IoError& error) {
    return {.outcome = Outcome::kIoError, .message = error.message()};
  } catch (const DeviceError& error) {
    return {.outcome = Outcome::kDeviceError, .message = error.message()};
  } catch (const std::exception& error) {
    return {.outcome = Outcome::kOtherError, .message = error.what()};
  }
  return {};
}

}  // namespace

void agree(parallel::Communicator& world, const std::function<void()>& body) {
  const Report mine = report_of(body);
  const auto outcome = static_cast<std::int64_t>(mine.outcome);
  std::vector<std::int64_t> outcomes(static_cast<std::size_t>(world.world_size()));
  world.all_gather_integers(std::span(&outcome, 1), outcomes);
  const auto is_failure = [](std::int64_t value) {
    return value != static_cast<std::int64_t>(Outcome::kDone);
  };
  const auto first = std::find_if(outcomes.begin(), outcomes.end(), is_failure);
  if (first == outcomes.end()) {
    return;
  }
  const auto first_rank = static_cast<int>(first - outcomes.begin());
  std::string message = parallel::broadcast_bytes(mine.message, first_rank, world);
  const auto num_failed = std::count_if(outcomes.begin(), outcomes.end(), is_failure);
  if (num_failed < world.world_size()) {
    message = concat("rank ", first_rank, ": ", message);
    if (num_failed > 1) {
      message += concat(" (and ", num_failed - 1, " more of ", world.world_size(), " ranks)");
    }
  }
  switch (static_cast<Outcome>(*first)) {
    case Outcome::kConfigError:
      throw ConfigError(message);
    case Outcome::kIoError:
      throw IoError(message);
    case Outcome::kDeviceError:
      throw DeviceError(message);
    default:
      throw InternalError(message);
  }
}

}  // namespace fathom::trainer
