#include "cli/together.h"

#include <algorithm>
#include <string>
#include <vector>

#include "cli/exit_code.h"
#include "core/error.h"
#include "parallel/comm/gather_bytes.h"

namespace fathom::cli {
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
  const std::string message = parallel::broadcast_bytes(ending.message, root, world);
  throw SharedFailure(
      {static_cast<int>(*failed), root == 0 ? message : concat("rank ", root, ": ", message)});
}

void share_failure(const std::function<void()>& work) {
  try {
    work();
  } catch (const ConfigError& error) {
    throw SharedFailure(ending_of(error, Phase::kPreparing));
  } catch (const IoError& error) {
    throw SharedFailure(ending_of(error, Phase::kPreparing));
  }
}

}  // namespace fathom::cli
