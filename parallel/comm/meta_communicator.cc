#include "parallel/comm/meta_communicator.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "parallel/comm/host_communicator.h"

namespace fathom::parallel {
namespace {

class MetaCommunicator final : public HostCommunicator {
 public:
  using HostCommunicator::Inheritance;
  MetaCommunicator(int rank, std::vector<int> world_ranks)
      : MetaCommunicator("world", rank, std::move(world_ranks), make_inheritance({})) {}
  MetaCommunicator(std::string name, int rank, std::vector<int> world_ranks,
                   Inheritance inheritance)
      : HostCommunicator(std::move(name), rank, std::move(world_ranks), std::move(inheritance)) {}

  void barrier() override {}

  void all_gather_integers(std::span<const std::int64_t> mine,
                           std::span<std::int64_t> all) override {
    FATHOM_CHECK(all.size() == world_ranks().size() * mine.size(), mine.size(), " from each of ",
                 world_size(), " ranks to ", all.size());
    for (std::size_t begin = 0; begin < all.size(); begin += mine.size()) {
      std::copy(mine.begin(), mine.end(), all.begin() + static_cast<std::ptrdiff_t>(begin));
    }
  }

  std::unique_ptr<Communicator> group(std::span<const int> ranks,
                                      const std::string& group_name) override {
    return std::make_unique<MetaCommunicator>(group_name, rank_among(ranks, group_name),
                                              world_ranks_of(ranks), inheritance());
  }

 protected:
  std::unique_ptr<Transfer> start(std::span<const Message> /*sends*/,
                                  std::span<const Message> /*receives*/, int /*tag*/) override {
    throw InternalError(concat("group ", name(), " of ", world_size(),
                               " planned ranks was given a tensor that holds data"));
  }
};

}  // namespace

std::unique_ptr<Communicator> make_meta_world(int rank, int size) {
  std::vector<int> world_ranks(static_cast<std::size_t>(std::max(size, 1)));
  std::iota(world_ranks.begin(), world_ranks.end(), 0);
  return std::make_unique<MetaCommunicator>(rank, std::move(world_ranks));
}

}  // namespace fathom::parallel
