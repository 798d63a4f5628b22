#include "parallel/comm/operation_monitor.h"

#include <algorithm>
#include <exception>
#include <iostream>
#include <utility>

#include "core/error.h"

namespace fathom::parallel {
namespace {

// From here on an operation takes long enough to be named in the heartbeat.
constexpr std::chrono::milliseconds kReportTime{100};

double seconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

std::string to_string(const OperationName& name) {
  return concat(name.operation, " number ", name.number, " of group ", name.group, " on rank ",
                name.rank, " of ", name.world_size);
}

OperationMonitor::OperationMonitor(const Options& options)
    : options_(options), thread_([this] { run(); }) {}

OperationMonitor::~OperationMonitor() {
  {
    const std::lock_guard lock(mutex_);
    must_stop_ = true;
  }
  stop_signal_.notify_all();
  thread_.join();
}

void OperationMonitor::add(const std::shared_ptr<DeviceTransport>& transport) {
  const std::lock_guard lock(mutex_);
  std::erase_if(transports_, [](const auto& known) { return known.expired(); });
  transports_.push_back(transport);
}

void OperationMonitor::watch(std::shared_ptr<DeviceOperation> operation, OperationName name) {
  const std::lock_guard lock(mutex_);
  watched_.push_back({std::move(operation), std::move(name), std::nullopt});
  if (options_.heartbeat != nullptr) {
    options_.heartbeat->count_progress();
  }
}

void OperationMonitor::check() const {
  const std::lock_guard lock(mutex_);
  if (failure_.has_value()) {
    throw CommError(*failure_);
  }
}

bool OperationMonitor::has_failed() const noexcept {
  const std::lock_guard lock(mutex_);
  return failure_.has_value();
}

void OperationMonitor::fail(const std::string& message) noexcept {
  {
    std::unique_lock lock(mutex_);
    if (failure_.has_value()) {
      given_up_signal_.wait_for(lock, options_.abort_time, [this] { return is_given_up_; });
      return;
    }
    failure_ = message;
  }
  // Outside the lock: a transport may be waiting for it.
  if (options_.before_aborts) {
    options_.before_aborts();
  }
  for (const auto& transport : transports()) {
    transport->abort();
  }
  if (options_.after_aborts) {
    options_.after_aborts();
  }
  {
    const std::lock_guard lock(mutex_);
    is_given_up_ = true;
  }
  given_up_signal_.notify_all();
}

std::vector<std::shared_ptr<DeviceTransport>> OperationMonitor::transports() {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<DeviceTransport>> living;
  for (const auto& known : transports_) {
    if (auto transport = known.lock()) {
      living.push_back(std::move(transport));
    }
  }
  return living;
}

void OperationMonitor::run() {
  std::unique_lock lock(mutex_);
  while (!stop_signal_.wait_for(lock, options_.interval, [this] { return must_stop_; })) {
    if (failure_.has_value()) {
      continue;
    }
    lock.unlock();
    std::optional<std::string> failure;
    try {
      failure = look();
    } catch (const std::exception& error) {  // the device itself has failed
      failure = concat("watching the device's communications: ", error.what());
    }
    if (failure.has_value()) {
      std::cerr << concat("error: ", *failure, "; the communications of this rank are given up\n")
                << std::flush;
      fail(*failure);
    }
    lock.lock();
  }
}

std::optional<std::string> OperationMonitor::look() {
  for (const auto& transport : transports()) {
    if (std::string error = transport->error(); !error.empty()) {
      return error;
    }
  }
  const std::lock_guard lock(mutex_);
  return look_at_operations(Clock::now());
}

std::optional<std::string> OperationMonitor::look_at_operations(Clock::time_point now) {
  std::erase_if(watched_, [](const Watched& one) { return one.operation->has_ended(); });
  const Watched* oldest = nullptr;
  for (Watched& one : watched_) {
    if (!one.begun.has_value() && one.operation->has_begun()) {
      one.begun = now;
    }
    if (one.begun.has_value() && (oldest == nullptr || *one.begun < *oldest->begun)) {
      oldest = &one;
    }
  }
  report(oldest, now);
  if (oldest == nullptr || now - *oldest->begun <= options_.deadline) {
    return std::nullopt;
  }
  return concat(to_string(oldest->name), " has not ended ", seconds(now - *oldest->begun),
                " s after the device began it (deadline ", seconds(options_.deadline), " s); ",
                watched_.size() - 1,
                " more are behind it. Some rank has not come to it: the heartbeats and logs of the "
                "others say which");
}

void OperationMonitor::report(const Watched* oldest, Clock::time_point now) {
  Heartbeat* const heartbeat = options_.heartbeat;
  if (heartbeat == nullptr) {
    return;
  }
  if (oldest != nullptr && now - *oldest->begun > kReportTime) {
    heartbeat->device_waits_in(oldest->name.operation, heartbeat->keep_name(oldest->name.group),
                               oldest->name.number);
    is_reported_ = true;
  } else if (is_reported_) {
    heartbeat->device_goes_on();
    is_reported_ = false;
  }
}

}  // namespace fathom::parallel
