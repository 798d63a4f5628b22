#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>

namespace fathom::parallel {

// What one rank is doing, for its watchdog: written by the rank's own thread and its communicators,
// read by the watchdog's thread at any time. One object a rank, handed to those who need it; it
// must outlive them. Writing costs a few stores.
class Heartbeat {
 public:
  struct Snapshot {
    std::uint64_t progress = 0;  // grows with everything that the rank does
    std::int64_t step = 0;
    const char* phase = "";
    bool is_waiting = false;  // inside a communication, for other ranks
    // The communication that was waited for last, its group and its number there.
    const char* operation = "";
    const char* group = "";
    std::uint64_t number = 0;
    int waits_for = -1;  // world rank; -1 while unknown
  };

  // Phases and operations are string literals: "forward", "write checkpoint".
  void begin_step(std::int64_t step) noexcept;
  void begin_phase(const char* phase) noexcept;
  // Something that may take long has moved on within a phase.
  void count_progress() noexcept { progress_.fetch_add(1, std::memory_order_relaxed); }

  // For communicators. Between begin_wait and end_wait the rank can do nothing about a lack of
  // progress.
  void begin_wait(const char* operation, const char* group, std::uint64_t number) noexcept;
  void waits_for(int world_rank) noexcept {
    waits_for_.store(world_rank, std::memory_order_relaxed);
  }
  void end_wait() noexcept;
  // For the thread that watches what the device does on its own: the operation that it is in, for
  // long by now, and that it is past it. Told of this rank while it waits for nothing else.
  void device_waits_in(const char* operation, const char* group, std::uint64_t number) noexcept;
  void device_goes_on() noexcept;

  // A copy of the name that lives as long as this object.
  const char* keep_name(std::string_view name);

  Snapshot read() const noexcept;

 private:
  std::atomic<std::uint64_t> progress_{0};
  std::atomic<std::int64_t> step_{0};
  std::atomic<const char*> phase_{"start"};
  std::atomic<bool> is_waiting_{false};
  std::atomic<const char*> operation_{""};
  std::atomic<const char*> group_{""};
  std::atomic<std::uint64_t> number_{0};
  std::atomic<int> waits_for_{-1};
  std::atomic<bool> device_waits_{false};
  std::atomic<const char*> device_operation_{""};
  std::atomic<const char*> device_group_{""};
  std::atomic<std::uint64_t> device_number_{0};
  std::mutex names_mutex_;
  std::deque<std::string> names_;
};

}  // namespace fathom::parallel
