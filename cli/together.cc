#include "cli/together.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cli/exit_code.h"
#include "core/error.h"

namespace fathom::cli {
namespace {

// `text` of the rank `root`, on every rank.
std::string text_of(parallel::Communicator& world, int root, const std::string& text) {
  const auto num_ranks = static_cast<std::size_t>(world.world_size());
  const auto root_index = static_cast<std::size_t>(root);
  const std::int64_t my_length = std::ssize(text);
  std::vector<std::int64_t> lengths(num_ranks);
  world.all_gather_integers({&my_length, 1}, lengths);
  const auto length = static_cast<std::size_t>(lengths[root_index]);
  const std::size_t count = length / sizeof(std::int64_t) + 1;
  std::vector<std::int64_t> mine(count, 0);
  std::memcpy(mine.data(), text.data(), std::min(length, text.size()));
  std::vector<std::int64_t> all(count * num_ranks);
  world.all_gather_integers(mine, all);
  std::string result(length, '\0');
  std::memcpy(result.data(), all.data() + root_index * count, length);
  return result;
}

}  // namespace

void prepare_together(parallel::Communicator& world, const std::function<void()>& work) {
  Ending ending;
  try {
    work();
  } catch (const std::exception& error) {
    ending = ending_of(error, Phase::kPreparing);
  }
  const std::int64_t my_code = ending.exit_code;
  std::vector<std::int64_t> codes(static_cast<std::size_t>(world.world_size()));
  world.all_gather_integers({&my_code, 1}, codes);
  const auto failed =
      std::find_if(codes.begin(), codes.end(), [](std::int64_t code) { return code != 0; });
  if (failed == codes.end()) {
    return;
  }
  const int root = static_cast<int>(failed - codes.begin());
  const std::string message = text_of(world, root, ending.message);
  throw SharedFailure(
      {static_cast<int>(*failed), root == 0 ? message : concat("rank ", root, ": ", message)});
}

}  // namespace fathom::cli
