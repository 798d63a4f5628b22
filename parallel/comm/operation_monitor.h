#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "parallel/comm/heartbeat.h"

namespace fathom::parallel {

// A communication that a device carries out on its own, and that ends only when other ranks take
// part. Asked by the monitor's thread.
class DeviceOperation {
 public:
  virtual ~DeviceOperation() = default;
  virtual bool has_begun() = 0;  // the device has done all that was queued before it
  virtual bool has_ended() = 0;
};

// What carries such operations out.
class DeviceTransport {
 public:
  virtual ~DeviceTransport() = default;
  // What it knows of a failure; empty while there is none.
  virtual std::string error() = 0;
  // Ends its operations, whatever they wait for; what they received is undefined.
  virtual void abort() noexcept = 0;
};

struct OperationName {
  const char* operation = "";  // a literal
  std::string group;
  int rank = 0;
  int world_size = 0;
  std::uint64_t number = 0;
};
// "all_reduce number 3 of group data on rank 1 of 2"
std::string to_string(const OperationName& name);

// The deadline of the communications that a rank's device carries out: nobody waits for those, the
// device itself does. A thread looks at them every `interval`. When one has not ended within
// `deadline` of its begin on the device, or a transport reports an error, all transports are
// aborted: what the device waits for ends, with undefined data, and every later check() throws, so
// that no rank goes on with them. Says in the heartbeat which operation the device is in, once
// that takes long. Made to be shared by the communicators of a rank.
class OperationMonitor {
 public:
  struct Options {
    std::chrono::milliseconds deadline{std::chrono::minutes(30)};
    std::chrono::milliseconds interval{20};
    // How long one thread waits for another's aborts: NCCL's may wait for other processes of the
    // node, which end when this one says what has failed.
    std::chrono::milliseconds abort_time{std::chrono::seconds(30)};
    Heartbeat* heartbeat = nullptr;  // may be null; outlives the monitor
    // Around the aborts of all transports; may be empty.
    std::function<void()> before_aborts = {};
    std::function<void()> after_aborts = {};
  };
  explicit OperationMonitor(const Options& options);
  ~OperationMonitor();
  OperationMonitor(const OperationMonitor&) = delete;
  OperationMonitor& operator=(const OperationMonitor&) = delete;

  // Forgotten when nobody else holds it any longer.
  void add(const std::shared_ptr<DeviceTransport>& transport);
  void watch(std::shared_ptr<DeviceOperation> operation, OperationName name);

  // Throws CommError, with the message of the first failure, when there was one.
  void check() const;
  bool has_failed() const noexcept;
  // The caller has found a failure: aborts all transports, or waits until another thread that does
  // so has done it, up to abort_time. Only the first message is kept.
  void fail(const std::string& message) noexcept;

 private:
  using Clock = std::chrono::steady_clock;
  struct Watched {
    std::shared_ptr<DeviceOperation> operation;
    OperationName name;
    std::optional<Clock::time_point> begun;  // seen by the monitor
  };

  void run();
  // The message of a failure.
  std::optional<std::string> look();
  std::optional<std::string> look_at_operations(Clock::time_point now);
  void report(const Watched* oldest, Clock::time_point now);
  std::vector<std::shared_ptr<DeviceTransport>> transports();

  Options options_;
  mutable std::mutex mutex_;
  std::condition_variable stop_signal_, given_up_signal_;
  bool must_stop_ = false;
  std::optional<std::string> failure_;
  bool is_given_up_ = false;    // all transports have been aborted
  std::list<Watched> watched_;  // in the order in which they were started
  std::vector<std::weak_ptr<DeviceTransport>> transports_;
  bool is_reported_ = false;
  std::thread thread_;
};

}  // namespace fathom::parallel
