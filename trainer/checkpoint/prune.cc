#include <algorithm>
#include <limits>

#include "core/error.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/checkpoint/checkpoint.h"

namespace fathom::trainer {
namespace {

namespace fs = std::filesystem;

// What the manifest of a published folder says; nothing, with the reason, when it is not a
// checkpoint that we can prove to be ours.
std::optional<Manifest> read_own(const fs::path& root, std::int64_t step, std::string& why) {
  try {
    return open_checkpoint(root, step, std::numeric_limits<std::int64_t>::max()).manifest;
  } catch (const Damage& damage) {
    why = damage.what();
  } catch (const Error& error) {
    why = error.message();
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::string> prune_checkpoints(const fs::path& root, std::int64_t keep_last,
                                           std::int64_t newest_step) {
  std::vector<std::string> left = remove_leftovers(root);
  std::vector<std::int64_t> steps = list_checkpoints(root);
  std::erase_if(steps, [&](std::int64_t step) { return step > newest_step; });
  std::reverse(steps.begin(), steps.end());
  std::int64_t num_good = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    std::string why;
    // A damaged checkpoint does not count: the good ones before it may be needed.
    const bool is_good = read_own(root, steps[i], why).has_value();
    num_good += is_good ? 1 : 0;
    if (!is_good) {
      left.push_back(concat(checkpoint_folder(root, steps[i]).string(), " is left: ", why));
    } else if (num_good > std::max<std::int64_t>(keep_last, 1)) {
      if (auto reason = remove_published(root, steps[i])) {
        left.push_back(*std::move(reason));
      }
    }
  }
  return left;
}

}  // namespace fathom::trainer
