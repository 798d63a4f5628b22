#include "trainer/checkpoint/comparison.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/error.h"

namespace fathom::trainer {
namespace {

class StateComparison : public parallel::StateVisitor {
 public:
  StateComparison(const Manifest& manifest, std::vector<std::int64_t>& asked_for)
      : manifest_(manifest), asked_for_(asked_for) {}

  Access access() const noexcept override { return Access::kLook; }
  void tensor(const parallel::StateSlice& slice, Tensor& local) override {
    num_owned_ += slice.is_owner ? local.numel() : 0;
    const StoredTensor* stored = manifest_.find(slice.key);
    if (stored == nullptr) {
      add(slice.key, concat(slice.key, ": not in the checkpoint"));
      return;
    }
    const auto index = static_cast<std::size_t>(stored - manifest_.tensors.data());
    asked_for_[index / 64] |= static_cast<std::int64_t>(std::uint64_t{1} << (index % 64));
    if (stored->global_shape != slice.global_shape || stored->dtype != local.dtype()) {
      add(slice.key,
          concat(slice.key, ": ", stored->dtype, " ", stored->global_shape, " in the checkpoint, ",
                 local.dtype(), " ", slice.global_shape, " here"));
    }
  }

  void integer(const std::string& key, std::int64_t&) override {
    integers_.insert(key);
    const bool is_stored = std::any_of(manifest_.integers.begin(), manifest_.integers.end(),
                                       [&](const auto& entry) { return entry.first == key; });
    if (!is_stored) {
      add(key, concat(key, ": not in the checkpoint"));
    }
  }

  std::int64_t num_owned() const noexcept { return num_owned_; }

  std::vector<std::string> take_differences(LoadScope scope) {
    for (const auto& [key, value] : manifest_.integers) {
      if (scope == LoadScope::kEverything && !integers_.contains(key)) {
        add(key, concat(key, ": in the checkpoint only"));
      }
    }
    return std::move(differences_);
  }

 private:
  // A tensor is shown slice by slice and told of once.
  void add(const std::string& key, std::string difference) {
    if (told_.insert(key).second) {
      differences_.push_back(std::move(difference));
    }
  }

  const Manifest& manifest_;
  std::vector<std::int64_t>& asked_for_;
  std::set<std::string> integers_, told_;
  std::vector<std::string> differences_;
  std::int64_t num_owned_ = 0;
};

}  // namespace

std::vector<std::string> compare_identity(const CheckpointIdentity& stored,
                                          const CheckpointIdentity& expected) {
  std::vector<std::string> differences;
  const auto compare = [&](const std::string& name, const std::string& there,
                           const std::string& here) {
    if (there != here) {
      differences.push_back(concat(name, ": ", there, " in the checkpoint, ", here, " here"));
    }
  };
  if (!expected.tokenizer_hash.empty()) {
    compare("tokenizer", stored.tokenizer_hash, expected.tokenizer_hash);
  }
  std::map<std::string, std::string> there(stored.model.begin(), stored.model.end());
  for (const auto& [name, here] : expected.model) {
    const auto found = there.find(name);
    compare(name, found == there.end() ? "absent" : found->second, here);
    if (found != there.end()) {
      there.erase(found);
    }
  }
  for (const auto& [name, value] : there) {
    compare(name, value, "absent");
  }
  return differences;
}

std::vector<std::string> compare_state(const Manifest& manifest, const VisitState& state,
                                       LoadScope scope, std::vector<std::int64_t>& asked_for,
                                       std::int64_t& num_owned) {
  asked_for.assign((manifest.tensors.size() + 63) / 64, 0);
  StateComparison comparison(manifest, asked_for);
  state(comparison);
  num_owned = comparison.num_owned();
  return comparison.take_differences(scope);
}

std::string list_differences(const std::vector<std::string>& differences) {
  constexpr std::size_t kMax = 10;
  std::string text;
  for (std::size_t i = 0; i < std::min(differences.size(), kMax); ++i) {
    text += concat("\n  ", differences[i]);
  }
  if (differences.size() > kMax) {
    text += concat("\n  and ", differences.size() - kMax, " more");
  }
  return text;
}

}  // namespace fathom::trainer
