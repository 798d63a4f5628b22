// The threads of a block as fibers of the calling thread.

#include <algorithm>
#include <array>
#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda_runtime.h"

thread_local uint3 threadIdx;
thread_local uint3 blockIdx;
thread_local dim3 blockDim;
thread_local dim3 gridDim;

namespace fathom::emulator {

thread_local ThreadState* current = nullptr;

namespace {

namespace context = boost::context;

constexpr std::size_t kStackBytes = std::size_t{128} << 10;
constexpr int kWarpSize = 32;

void make_current(ThreadState* state) {
  current = state;
  threadIdx = state->thread;
}

struct Barrier {
  int num_arrived = 0;
  std::uint64_t generation = 0;
};

// Values of a warp operation. A lane is at most one operation ahead of another, so two sets
// suffice.
struct Warp {
  std::array<std::array<std::uint64_t, kWarpSize>, 2> values{};
  std::array<std::uint64_t, kWarpSize> num_operations{};
};

// Runs CUDA threads one after another; fibers are used again by thread after thread and block after
// block, and only threads that wait keep one.
class Block {
 public:
  // Runs all threads of one block; throws what a thread has thrown, or what deadlock was found.
  void run(const ThreadState& shape, const std::function<void()>& body) {
    body_ = &body;
    const auto count = static_cast<std::size_t>(shape.block_size.x);
    threads_.assign(count, shape);
    for (std::size_t i = 0; i < count; ++i) {
      threads_[i].thread.x = static_cast<unsigned>(i);
    }
    num_started_ = 0;
    num_done_ = 0;
    error_ = nullptr;
    barriers_ = {};
    warps_.assign((count + kWarpSize - 1) / kWarpSize, Warp{});
    while (num_done_ < count && error_ == nullptr) {
      const std::uint64_t before = num_changes_;
      run_round();
      if (num_changes_ == before && num_done_ < count && error_ == nullptr) {
        error_ = std::make_exception_ptr(std::runtime_error(
            "deadlock in an emulated kernel: " + std::to_string(count - num_done_) + " of " +
            std::to_string(count) + " threads wait for one another; " + std::to_string(num_done_) +
            " have ended"));
      }
    }
    if (error_ != nullptr) {
      fibers_.clear();  // unwinds those that wait
      std::rethrow_exception(error_);
    }
  }

  void give_way() {
    Fiber& fiber = *running_;
    ThreadState* state = current;
    fiber.outside = std::move(fiber.outside).resume();
    make_current(state);
  }
  void progress() noexcept { ++num_changes_; }

  void sync(int barrier, int num_threads) {
    Barrier& here = barriers_.at(static_cast<std::size_t>(barrier));
    const std::uint64_t generation = here.generation;
    progress();
    if (++here.num_arrived == num_threads) {
      here.num_arrived = 0;
      ++here.generation;
      return;
    }
    while (here.generation == generation) {
      give_way();
    }
  }

  const std::uint64_t* exchange(std::uint64_t value) {
    Warp& warp = warps_[current->thread.x / kWarpSize];
    const auto lane = static_cast<std::size_t>(current->lane());
    const std::uint64_t operation = ++warp.num_operations[lane];
    auto& values = warp.values[operation % 2];
    values[lane] = value;
    progress();
    while (std::ranges::any_of(warp.num_operations,
                               [&](std::uint64_t others) { return others < operation; })) {
      give_way();
    }
    return values.data();
  }

 private:
  struct Fiber {
    context::fiber inside;   // where the fiber goes on
    context::fiber outside;  // where its caller goes on
    bool has_thread = false;
  };

  // Every waiting thread goes on once; the fiber that is free starts new threads until one waits.
  void run_round() {
    for (std::size_t i = 0; i < fibers_.size() && error_ == nullptr; ++i) {
      resume(*fibers_[i]);
    }
    while (num_started_ < threads_.size() && error_ == nullptr) {
      resume(free_fiber());
    }
  }

  Fiber& free_fiber() {
    for (const std::unique_ptr<Fiber>& fiber : fibers_) {
      if (!fiber->has_thread) {
        return *fiber;
      }
    }
    fibers_.push_back(std::make_unique<Fiber>());
    Fiber& fiber = *fibers_.back();
    fiber.inside = context::fiber(std::allocator_arg, context::fixedsize_stack(kStackBytes),
                                  [this, &fiber](context::fiber&& caller) {
                                    fiber.outside = std::move(caller);
                                    run_threads(fiber);
                                    return std::move(fiber.outside);
                                  });
    return fiber;
  }

  void resume(Fiber& fiber) {
    if (!fiber.has_thread && num_started_ == threads_.size()) {
      return;
    }
    running_ = &fiber;
    fiber.inside = std::move(fiber.inside).resume();
  }

  void run_threads(Fiber& fiber) {
    for (;;) {
      while (num_started_ < threads_.size() && error_ == nullptr) {
        fiber.has_thread = true;
        make_current(&threads_[num_started_++]);
        try {
          (*body_)();
          if (!current->begun_work.empty() || !current->committed_work.empty() ||
              !current->begun_copies.empty()) {
            fail("a thread of an emulated kernel ends before its asynchronous work");
          }
        } catch (const context::detail::forced_unwind&) {
          throw;
        } catch (...) {
          error_ = std::current_exception();
        }
        ++num_done_;
        progress();
        fiber.has_thread = false;
      }
      fiber.outside = std::move(fiber.outside).resume();
    }
  }

  const std::function<void()>* body_ = nullptr;
  std::vector<ThreadState> threads_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  Fiber* running_ = nullptr;
  std::size_t num_started_ = 0;
  std::size_t num_done_ = 0;
  std::uint64_t num_changes_ = 0;
  std::exception_ptr error_;
  std::array<Barrier, 16> barriers_{};
  std::vector<Warp> warps_;
};

thread_local Block block;

}  // namespace

void run(dim3 grid, dim3 block_size, std::size_t shared_bytes,
         const std::function<void()>& thread_body) {
  if (block_size.y != 1 || block_size.z != 1 || grid.y != 1 || grid.z != 1 || block_size.x == 0 ||
      block_size.x > 1024 || block_size.x % kWarpSize != 0) {
    throw std::runtime_error("emulated kernels have one dimension and blocks of whole warps");
  }
  constexpr std::size_t kSharedAlignment = 1024;
  std::vector<std::byte> memory(shared_bytes + kSharedAlignment);
  const auto start = reinterpret_cast<std::uintptr_t>(memory.data());
  ThreadState shape;
  shape.block_size = block_size;
  shape.grid_size = grid;
  shape.dynamic_shared = memory.data() + (kSharedAlignment - start % kSharedAlignment);
  const MemoryAccess access;
  for (unsigned x = 0; x < grid.x; ++x) {
    // What a block finds in shared memory is nothing to rely on.
    std::memset(memory.data(), 0xff, memory.size());
    shape.block.x = x;
    blockIdx = shape.block;
    blockDim = block_size;
    gridDim = grid;
    block.run(shape, thread_body);
  }
  current = nullptr;
}

void sync_threads() { block.sync(0, static_cast<int>(current->block_size.x)); }
void sync_named(int barrier, int num_threads) { block.sync(barrier, num_threads); }
void give_way() { block.give_way(); }
void progress() noexcept { block.progress(); }
const std::uint64_t* exchange_in_warp(std::uint64_t value) { return block.exchange(value); }
void fail(const char* message) { throw std::runtime_error(message); }

}  // namespace fathom::emulator
