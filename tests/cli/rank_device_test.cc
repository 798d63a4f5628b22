#include "cli/rank_device.h"

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

namespace fathom::cli {
namespace {

// A rank on the node whose first rank is `node`, that sees `count` devices from `first` on.
DeviceView sees(int node, int count, std::int64_t first) { return {node, count, {first, -first}}; }

std::vector<int> choices(const std::vector<DeviceView>& views, bool may_share) {
  std::vector<int> devices;
  for (int rank = 0; rank < static_cast<int>(views.size()); ++rank) {
    devices.push_back(choose_device(views, rank, may_share));
  }
  return devices;
}

}  // namespace

TEST_CASE("Ranks of a node that see all its devices take one each, in order") {
  const std::vector<DeviceView> nodes = {sees(0, 2, 10), sees(0, 2, 10), sees(2, 2, 20),
                                         sees(2, 2, 20)};
  CHECK(choices(nodes, false) == std::vector<int>{0, 1, 0, 1});
  // By turns over the nodes, as mpirun --map-by node deals them out.
  const std::vector<DeviceView> dealt = {sees(0, 2, 10), sees(1, 2, 20), sees(0, 2, 10),
                                         sees(1, 2, 20)};
  CHECK(choices(dealt, false) == std::vector<int>{0, 0, 1, 1});
}

TEST_CASE("Ranks that are each shown another device take it") {
  const std::vector<DeviceView> views = {sees(0, 1, 10), sees(0, 1, 11), sees(0, 1, 12),
                                         sees(3, 1, 20)};
  CHECK(choices(views, false) == std::vector<int>{0, 0, 0, 0});
}

TEST_CASE("Ranks that see the same device share it where they may, and are refused where not") {
  const std::vector<DeviceView> same = {sees(0, 1, 10), sees(0, 1, 10)};
  CHECK(choices(same, true) == std::vector<int>{0, 0});
  CHECK(choose_device(same, 0, false) == 0);
  CHECK_THROWS_WITH(
      choose_device(same, 1, false),
      Catch::Contains("it is number 1 of the ranks of its node, from 0, and sees 1") &&
          Catch::Contains("run.transport=MPI"));
  CHECK_THROWS_AS(choose_device(same, 1, false), ConfigError);

  const std::vector<DeviceView> three_of_two = {sees(0, 2, 10), sees(0, 2, 10), sees(0, 2, 10)};
  CHECK(choices(three_of_two, true) == std::vector<int>{0, 1, 0});
  CHECK_THROWS_AS(choose_device(three_of_two, 2, false), ConfigError);
  // One rank sees all and another only one: the one may be the other's.
  CHECK_THROWS_AS(choices({sees(0, 2, 10), sees(0, 1, 11)}, false), ConfigError);
}

TEST_CASE("All ranks know what each sees") {
  const std::vector<DeviceView> views = {sees(0, 8, 1), sees(0, 8, -5), sees(2, 1, 7)};
  std::vector<std::vector<DeviceView>> found(views.size());
  test::run_ranks(3, [&](parallel::Communicator& world, Stream& /*stream*/) {
    const auto rank = static_cast<std::size_t>(world.rank());
    found[rank] = gather_device_views(world, views[rank]);
  });
  CHECK(found == std::vector<std::vector<DeviceView>>(3, views));
}

}  // namespace fathom::cli
