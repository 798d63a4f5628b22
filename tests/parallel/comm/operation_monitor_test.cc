#include "parallel/comm/operation_monitor.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "core/error.h"
#include "tests/support/catch.h"

using namespace fathom;
using namespace std::chrono_literals;
using parallel::Heartbeat;
using parallel::OperationMonitor;

namespace {

struct FakeOperation final : parallel::DeviceOperation {
  bool has_begun() override { return begun; }
  bool has_ended() override { return ended; }
  std::atomic<bool> begun{false}, ended{false};
};

struct FakeTransport final : parallel::DeviceTransport {
  std::string error() override { return broken ? "the cable is out" : ""; }
  void abort() noexcept override { aborted = true; }
  std::atomic<bool> broken{false}, aborted{false};
};

// Until something is so, or long enough to say that it never will be.
template <class Condition>
bool comes_true(const Condition& condition) {
  for (int i = 0; i < 2000 && !condition(); ++i) {
    std::this_thread::sleep_for(5ms);
  }
  return condition();
}

std::string message_of(const OperationMonitor& monitor) {
  try {
    monitor.check();
  } catch (const CommError& error) {
    return error.message();
  }
  return {};
}

}  // namespace

TEST_CASE("An operation that does not end: all transports are aborted and every check throws") {
  OperationMonitor monitor({.deadline = 100ms, .interval = 2ms});
  const auto transport = std::make_shared<FakeTransport>();
  const auto other = std::make_shared<FakeTransport>();
  monitor.add(transport);
  monitor.add(other);
  const auto done = std::make_shared<FakeOperation>();
  done->begun = done->ended = true;
  monitor.watch(done, {"all_gather", "tensor", 0, 4, 0});
  const auto stuck = std::make_shared<FakeOperation>();
  stuck->begun = true;
  monitor.watch(stuck, {"all_reduce", "data", 1, 2, 7});
  REQUIRE(comes_true([&] { return transport->aborted && other->aborted; }));
  const std::string message = message_of(monitor);
  CHECK(message.find("all_reduce number 7 of group data on rank 1 of 2") != std::string::npos);
  CHECK(message.find("deadline 0.1 s") != std::string::npos);
}

TEST_CASE("The deadline counts from the begin on the device, not from the call") {
  OperationMonitor monitor({.deadline = 50ms, .interval = 2ms});
  const auto queued = std::make_shared<FakeOperation>();
  monitor.watch(queued, {"all_reduce", "data", 0, 2, 0});
  std::this_thread::sleep_for(300ms);
  CHECK_NOTHROW(monitor.check());
  queued->begun = true;
  CHECK(comes_true([&] { return monitor.has_failed(); }));
}

TEST_CASE("An error that a transport reports ends the rank's communications") {
  OperationMonitor monitor({.deadline = 1h, .interval = 2ms});
  const auto transport = std::make_shared<FakeTransport>();
  monitor.add(transport);
  monitor.add(std::make_shared<FakeTransport>());  // gone again at once
  CHECK_NOTHROW(monitor.check());
  transport->broken = true;
  REQUIRE(comes_true([&] { return transport->aborted.load(); }));
  CHECK(message_of(monitor) == "the cable is out");
  monitor.fail("and something else");
  CHECK(message_of(monitor) == "the cable is out");
}

TEST_CASE("Who fails second comes back when all transports have been aborted") {
  struct SlowTransport final : parallel::DeviceTransport {
    std::string error() override { return ""; }
    void abort() noexcept override {
      is_aborting = true;
      std::this_thread::sleep_for(100ms);
      is_aborted = true;
    }
    std::atomic<bool> is_aborting{false}, is_aborted{false};
  };
  OperationMonitor monitor({.interval = 2ms});
  const auto transport = std::make_shared<SlowTransport>();
  monitor.add(transport);
  std::jthread first([&] { monitor.fail("the first"); });
  REQUIRE(comes_true([&] { return transport->is_aborting.load(); }));
  monitor.fail("the second");
  CHECK(transport->is_aborted);
  CHECK(message_of(monitor) == "the first");
}

TEST_CASE("The heartbeat names the operation that the device is in for long") {
  Heartbeat heartbeat;
  OperationMonitor monitor({.deadline = 1h, .interval = 2ms, .heartbeat = &heartbeat});
  const auto first = std::make_shared<FakeOperation>();
  first->begun = true;
  monitor.watch(first, {"reduce_scatter", "data", 0, 2, 3});
  REQUIRE(comes_true([&] { return heartbeat.read().is_waiting; }));
  const Heartbeat::Snapshot seen = heartbeat.read();
  CHECK(std::string(seen.operation) == "reduce_scatter");
  CHECK(std::string(seen.group) == "data");
  CHECK(seen.number == 3);
  // While it lasts nothing counts as progress, and a wait of the rank itself comes first.
  std::this_thread::sleep_for(50ms);
  CHECK(heartbeat.read().progress == seen.progress);
  heartbeat.begin_wait("barrier", "world", 1);
  CHECK(std::string(heartbeat.read().operation) == "barrier");
  heartbeat.end_wait();
  first->ended = true;
  CHECK(comes_true([&] { return !heartbeat.read().is_waiting; }));
}
