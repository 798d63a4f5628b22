#include "parallel/parameter_groups.h"

#include <algorithm>
#include <map>

#include "core/error.h"

namespace fathom::parallel {
namespace {

constexpr std::int64_t kGroupElements = 40'000'000;
constexpr std::int64_t kElementsOfReplica = 1'000'000;

std::int64_t least_elements(const Communicator& replicas, std::int64_t min_elements) {
  return min_elements > 0 ? min_elements
                          : std::max(kGroupElements, kElementsOfReplica * replicas.world_size());
}

struct Group {
  std::vector<Parameter*> parameters;  // last one first
  std::int64_t num_elements = 0;
  std::size_t first = 0;  // place of the group's first parameter among all
};

}  // namespace

std::vector<std::vector<Parameter*>> cut_into_groups(const std::vector<Parameter*>& parameters,
                                                     std::int64_t min_elements) {
  std::vector<Group> groups;
  std::map<const Communicator*, std::size_t> open;
  for (std::size_t i = parameters.size(); i-- > 0;) {
    Parameter* const parameter = parameters[i];
    FATHOM_CHECK(parameter->replicas != nullptr, parameter->name);
    const auto [found, is_new] = open.try_emplace(parameter->replicas, groups.size());
    if (is_new) {
      groups.emplace_back();
    }
    Group& group = groups[found->second];
    group.parameters.push_back(parameter);
    group.num_elements += parameter->shape.numel();
    group.first = i;
    if (group.num_elements >= least_elements(*parameter->replicas, min_elements)) {
      open.erase(found);
    }
  }
  std::ranges::sort(groups, {}, &Group::first);
  std::vector<std::vector<Parameter*>> result;
  for (Group& group : groups) {
    std::ranges::reverse(group.parameters);
    result.push_back(std::move(group.parameters));
  }
  return result;
}

}  // namespace fathom::parallel
