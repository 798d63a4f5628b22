#include "parallel/comm/watchdog.h"

#include <chrono>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "parallel/comm/hang.h"
#include "parallel/comm/heartbeat.h"
#include "parallel/comm/heartbeat_file.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"
#include "tests/support/temporary_folder.h"

using namespace fathom;
using namespace std::chrono_literals;
using parallel::describe_hang;
using parallel::HeartbeatRecord;
using parallel::RankSighting;

namespace {

HeartbeatRecord record_of(int rank) {
  HeartbeatRecord record;
  record.rank = rank;
  record.job_id = 77;
  record.host = "node7";
  record.pid = 100 + rank;
  record.beat = 50;
  record.idle_ms = 40000;
  record.step = 17;
  record.phase = "forward";
  return record;
}

RankSighting waiting(int rank, int for_rank) {
  HeartbeatRecord record = record_of(rank);
  record.is_waiting = true;
  record.operation = "all_reduce";
  record.group = "data";
  record.number = 812;
  record.waits_for = for_rank;
  RankSighting sighting{record, record};
  sighting.after->beat += 3;
  return sighting;
}

RankSighting busy(int rank) {
  RankSighting sighting{record_of(rank), record_of(rank)};
  sighting.after->beat += 3;
  return sighting;
}

RankSighting stopped(int rank) { return {record_of(rank), record_of(rank)}; }

std::string hang_of(const std::vector<RankSighting>& sightings) {
  return describe_hang(sightings, 30s).value_or("no hang");
}

}  // namespace

TEST_CASE("A heartbeat survives the way through its file, spaces in names included") {
  const test::TemporaryFolder folder;
  HeartbeatRecord record = *waiting(3, 1).after;
  record.phase = "write checkpoint";
  record.has_ended = true;
  REQUIRE(parallel::write_heartbeat(folder.path(), record));
  record.step = 18;
  REQUIRE(parallel::write_heartbeat(folder.path(), record));  // over the first
  const auto read = parallel::read_heartbeat(folder.path(), 3);
  REQUIRE(read.has_value());
  CHECK(to_line(*read) == to_line(record));
  CHECK(read->phase == "write checkpoint");
  CHECK(read->operation == "all_reduce");
  CHECK(read->number == 812);
  CHECK_FALSE(parallel::read_heartbeat(folder.path(), 4).has_value());
}

TEST_CASE("A damaged heartbeat file is no heartbeat") {
  const test::TemporaryFolder folder;
  for (const std::string& text :
       {std::string(), std::string("rank=0\n"), std::string(511, 'x') + '\n',
        std::string(511, ' ') + '\n', to_line(record_of(0)).replace(5, 1, "?")}) {
    std::string line = text;
    line.resize(511, ' ');
    std::ofstream(folder.path() / "rank-0") << line << '\n';
    CHECK_FALSE(parallel::read_heartbeat(folder.path(), 0).has_value());
  }
}

TEST_CASE("A rank whose heartbeat stands still is guilty") {
  CHECK(hang_of({waiting(0, 2), waiting(1, 2), stopped(2)}) ==
        "hang: no progress for 30 s; rank 2 (node7, pid 102) stopped answering, last seen at step "
        "17 in "
        "'forward'; rank 0 waits at step 17 in 'forward', in all_reduce number 812 of group data "
        "for rank 2");
}

TEST_CASE("A rank that is busy outside any communication is guilty") {
  CHECK(hang_of({waiting(0, 1), busy(1)}) ==
        "hang: no progress for 30 s; rank 1 (node7, pid 101) is stuck at step 17 in 'forward', "
        "outside any communication; rank 0 waits at step 17 in 'forward', in all_reduce number "
        "812 of group data for rank 1");
}

TEST_CASE("Ranks that wait for each other are all listed") {
  const std::string line = hang_of({waiting(0, 1), waiting(1, 0)});
  CHECK(line.find("ranks wait for each other; rank 0 waits") != std::string::npos);
  CHECK(line.find("for rank 1; rank 1 waits") != std::string::npos);
}

TEST_CASE("Ranks that have left or left nothing are named") {
  RankSighting ended = busy(1);
  ended.after->has_ended = true;
  const std::string line = hang_of({waiting(0, 1), ended, RankSighting{}});
  CHECK(line.find("; rank 1 has ended; rank 2 left no heartbeat") != std::string::npos);
}

TEST_CASE("It is not a hang while any rank still moves") {
  RankSighting moving = busy(1);
  moving.after->idle_ms = 29000;
  CHECK(hang_of({waiting(0, 1), moving}) == "no hang");
}

TEST_CASE("A long list of guilty ranks is cut") {
  std::vector<RankSighting> all;
  for (int rank = 0; rank < 100; ++rank) {
    all.push_back(stopped(rank));
  }
  const std::string line = hang_of(all);
  CHECK(line.find("rank 7 ") != std::string::npos);
  CHECK(line.find("rank 8 ") == std::string::npos);
  CHECK(line.find("; and 92 more") != std::string::npos);
}

TEST_CASE("A watchdog publishes what its rank does, until it is stopped") {
  const test::TemporaryFolder folder;
  parallel::Heartbeat heartbeat;
  {
    parallel::WatchdogOptions options;
    options.folder = folder.path() / "heartbeat";
    options.job_id = 5;
    options.interval = 10ms;
    options.deadline = 60s;
    const parallel::Watchdog watchdog(heartbeat, options);
    heartbeat.begin_step(9);
    heartbeat.begin_phase("forward");
    heartbeat.begin_wait("recv", heartbeat.keep_name("pipeline"), 4);
    std::optional<HeartbeatRecord> seen;
    for (int i = 0; i < 500 && !(seen && seen->is_waiting && seen->idle_ms > 20); ++i) {
      std::this_thread::sleep_for(10ms);
      seen = parallel::read_heartbeat(options.folder, 0);
    }
    REQUIRE(seen.has_value());
    CHECK(seen->step == 9);
    CHECK(seen->phase == "forward");
    CHECK(seen->is_waiting);
    CHECK(seen->operation == "recv");
    CHECK(seen->group == "pipeline");
    CHECK(seen->number == 4);
    CHECK_FALSE(seen->has_ended);
  }
  CHECK(parallel::read_heartbeat(folder.path() / "heartbeat", 0)->has_ended);
}

TEST_CASE("Communicators write the heartbeat: waits, the rank waited for, progress") {
  parallel::Heartbeat heartbeat;
  parallel::CommOptions options;
  options.heartbeat = &heartbeat;
  const auto world = parallel::make_thread_world(1, options);
  Stream stream;
  Tensor x = Tensor::zeros(Shape{4}, DType::kFloat32, stream);
  const auto before = heartbeat.read().progress;
  world[0]->broadcast(x, 0, stream).wait();
  CHECK(heartbeat.read().progress > before);
  CHECK_FALSE(heartbeat.read().is_waiting);
}

TEST_CASE("A folder that cannot be made is an error at the start, not a silent watchdog") {
  const test::TemporaryFolder folder;
  std::ofstream(folder.path() / "log") << "a file";
  parallel::Heartbeat heartbeat;
  parallel::WatchdogOptions options;
  options.folder = folder.path() / "log" / "heartbeat";
  CHECK_THROWS_AS(parallel::Watchdog(heartbeat, options), IoError);
}

TEST_CASE("Heartbeats come as often as their deadline needs, and no more than once a second") {
  CHECK(parallel::heartbeat_interval(600s) == 20s);  // train.watchdog_timeout's default
  CHECK(parallel::heartbeat_interval(3h) == 6min);
  CHECK(parallel::heartbeat_interval(30s) == 1s);
  CHECK(parallel::heartbeat_interval(3s) == 1s);
  CHECK(parallel::heartbeat_interval(300ms) == 300ms);
}

TEST_CASE("The watchdog speaks before a wait ends by itself, and half an hour is always allowed") {
  CHECK(parallel::deadline_of_waits(3s) == 30min);
  CHECK(parallel::deadline_of_waits(600s) == 30min);
  CHECK(parallel::deadline_of_waits(2h) == 4h);
  for (const std::chrono::milliseconds deadline : {1000ms, 600'000ms, 7'200'000ms}) {
    // The last beat, and three more until the second look.
    CHECK(deadline + 4 * parallel::heartbeat_interval(deadline) <
          parallel::deadline_of_waits(deadline));
  }
}
