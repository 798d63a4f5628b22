#include "core/stream.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <thread>
#include <vector>

#include "core/error.h"

namespace fathom {
namespace {

// Long enough to bridge the gap between two kernels, short enough that ranks that share cores do
// not burn them.
constexpr std::chrono::microseconds kSpinTime{5};

// Rounding to nearest, denormals kept, all exceptions masked; the low six bits say which occurred.
constexpr unsigned kFloatEnvironment = 0x1F80;
constexpr unsigned kExceptionFlags = 0x3F;

void check_float_environment() {
  const unsigned found = _mm_getcsr() & ~kExceptionFlags;
  FATHOM_CHECK(found == kFloatEnvironment, "a thread computes with MXCSR ", found, ", want ",
               kFloatEnvironment, ": a library has switched denormals or rounding");
}

// Returns the value of `word` once it differs from `old`: spins for kSpinTime, then sleeps.
int wait_while_equal(const std::atomic<int>& word, int old) {
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 16; ++i) {
      if (const int value = word.load(std::memory_order_acquire); value != old) {
        return value;
      }
      _mm_pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  word.wait(old, std::memory_order_acquire);
  return word.load(std::memory_order_acquire);
}

}  // namespace

// Worker i runs range i of a job, the caller range 0. A job touches only the workers that it has a
// range for.
class ThreadPool {
 public:
  using Body = std::function<void(std::int64_t, std::int64_t)>;

  explicit ThreadPool(int num_threads) : lanes_(static_cast<std::size_t>(num_threads)) {
    for (std::size_t i = 1; i < lanes_.size(); ++i) {
      lanes_[i].thread = std::thread([this, i] { work(i); });
    }
  }
  ~ThreadPool() {
    body_ = nullptr;  // the sign to leave
    for (std::size_t i = 1; i < lanes_.size(); ++i) {
      start(lanes_[i]);
    }
    for (std::size_t i = 1; i < lanes_.size(); ++i) {
      lanes_[i].thread.join();
    }
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const noexcept { return static_cast<int>(lanes_.size()); }

  void run(std::int64_t count, int num_ranges, const Body& body) {
    FATHOM_CHECK(!is_running_.exchange(true), "parallel_for inside a parallel_for");
    body_ = &body;
    count_ = count;
    num_ranges_ = num_ranges;
    num_unfinished_.store(num_ranges - 1, std::memory_order_relaxed);
    for (int i = 1; i < num_ranges; ++i) {
      start(lanes_[static_cast<std::size_t>(i)]);
    }
    run_range(0);
    for (int left = num_unfinished_.load(std::memory_order_acquire); left != 0;) {
      left = wait_while_equal(num_unfinished_, left);
    }
    is_running_.store(false);
    rethrow_first();
  }

 private:
  // One thread and what it is told; apart in memory so that waiting threads do not disturb one
  // another.
  struct alignas(64) Lane {
    std::atomic<int> num_starts{0};
    std::exception_ptr error;
    std::thread thread;
  };

  static void start(Lane& lane) {
    lane.num_starts.fetch_add(1, std::memory_order_release);
    lane.num_starts.notify_one();
  }

  void work(std::size_t index) {
    _mm_setcsr(kFloatEnvironment);
    for (int seen = 0;;) {
      seen = wait_while_equal(lanes_[index].num_starts, seen);
      if (body_ == nullptr) {
        return;
      }
      run_range(static_cast<int>(index));
      if (num_unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        num_unfinished_.notify_one();
      }
    }
  }

  void run_range(int index) noexcept {
    try {
      check_float_environment();
      (*body_)(count_* index / num_ranges_, count_ * (index + 1) / num_ranges_);
    } catch (...) {
      lanes_[static_cast<std::size_t>(index)].error = std::current_exception();
    }
  }

  // The error of the first range, so that the message does not depend on which thread was faster.
  void rethrow_first() {
    std::exception_ptr first;
    for (Lane& lane : lanes_) {
      if (lane.error && !first) {
        first = lane.error;
      }
      lane.error = nullptr;
    }
    if (first) {
      std::rethrow_exception(first);
    }
  }

  std::vector<Lane> lanes_;  // lane 0 is the caller's
  const Body* body_ = nullptr;
  std::int64_t count_ = 0;
  int num_ranges_ = 0;
  std::atomic<bool> is_running_{false};
  alignas(64) std::atomic<int> num_unfinished_{0};
};

Stream::Stream(Device device, int num_threads, SumOrder order)
    : device_(device), order_(order), allocator_(make_allocator(device)) {
  FATHOM_CHECK(num_threads >= 1, num_threads, " threads");
  if (is_meta()) {
    return;
  }
  _mm_setcsr(kFloatEnvironment);
  if (device.type != DeviceType::kCpu) {
    queue_ = device_backend(device.type).make_queue(device.index);
  }
  if (num_threads > 1) {
    pool_ = std::make_unique<ThreadPool>(num_threads);
  }
}

Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;

int Stream::num_threads() const noexcept { return pool_ ? pool_->num_threads() : 1; }

void Stream::parallel_for(std::int64_t count, std::int64_t grain,
                          const std::function<void(std::int64_t begin, std::int64_t end)>& body) {
  FATHOM_CHECK(!is_meta(), "parallel_for on ", device_);
  if (count <= 0) {
    return;
  }
  const std::int64_t num_ranges = std::min<std::int64_t>(
      num_threads(), std::max<std::int64_t>(1, count / std::max<std::int64_t>(1, grain)));
  if (num_ranges == 1) {
    check_float_environment();
    body(0, count);
    return;
  }
  pool_->run(count, static_cast<int>(num_ranges), body);
}

}  // namespace fathom
