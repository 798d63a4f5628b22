#include "parallel/comm/heartbeat.h"

namespace fathom::parallel {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

// Fields are stored one by one: a reader may see a mixture of two moments, but not once the rank
// stands still, which is when it matters.

void Heartbeat::begin_step(std::int64_t step) noexcept {
  step_.store(step, kRelaxed);
  count_progress();
}

void Heartbeat::begin_phase(const char* phase) noexcept {
  phase_.store(phase, kRelaxed);
  count_progress();
}

void Heartbeat::begin_wait(const char* operation, const char* group,
                           std::uint64_t number) noexcept {
  operation_.store(operation, kRelaxed);
  group_.store(group, std::memory_order_release);  // with the letters of a name just made
  number_.store(number, kRelaxed);
  waits_for_.store(-1, kRelaxed);
  is_waiting_.store(true, kRelaxed);
  count_progress();
}

void Heartbeat::end_wait() noexcept {
  is_waiting_.store(false, kRelaxed);
  count_progress();
}

void Heartbeat::device_waits_in(const char* operation, const char* group,
                                std::uint64_t number) noexcept {
  device_operation_.store(operation, kRelaxed);
  device_group_.store(group, std::memory_order_release);
  device_number_.store(number, kRelaxed);
  device_waits_.store(true, kRelaxed);
}

void Heartbeat::device_goes_on() noexcept {
  device_waits_.store(false, kRelaxed);
  count_progress();
}

const char* Heartbeat::keep_name(std::string_view name) {
  const std::lock_guard lock(names_mutex_);
  for (const std::string& kept : names_) {
    if (kept == name) {
      return kept.c_str();
    }
  }
  return names_.emplace_back(name).c_str();
}

Heartbeat::Snapshot Heartbeat::read() const noexcept {
  Snapshot snapshot;
  snapshot.progress = progress_.load(kRelaxed);
  snapshot.step = step_.load(kRelaxed);
  snapshot.phase = phase_.load(kRelaxed);
  snapshot.is_waiting = is_waiting_.load(kRelaxed);
  snapshot.operation = operation_.load(kRelaxed);
  snapshot.group = group_.load(std::memory_order_acquire);
  snapshot.number = number_.load(kRelaxed);
  snapshot.waits_for = waits_for_.load(kRelaxed);
  if (!snapshot.is_waiting && device_waits_.load(kRelaxed)) {
    snapshot.is_waiting = true;
    snapshot.operation = device_operation_.load(kRelaxed);
    snapshot.group = device_group_.load(std::memory_order_acquire);
    snapshot.number = device_number_.load(kRelaxed);
    snapshot.waits_for = -1;
  }
  return snapshot;
}

}  // namespace fathom::parallel
