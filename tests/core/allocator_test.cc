#include "core/allocator.h"

#include <cstring>
#include <map>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "tests/support/catch.h"

using namespace fathom;

namespace {

struct LiveBlock {
  std::int64_t bytes;
  unsigned char mark;
};

bool holds_only(const std::byte* pointer, const LiveBlock& block) {
  for (std::int64_t i = 0; i < block.bytes; ++i) {
    if (pointer[i] != std::byte{block.mark}) {
      return false;
    }
  }
  return true;
}

// Random allocations and frees, every block filled with its own mark; at the end the number of
// damaged blocks.
int damaged_blocks(Allocator& allocator, std::uint64_t seed, int num_steps) {
  const RandomSource random(seed, "test/allocator");
  std::vector<std::pair<std::byte*, LiveBlock>> live;
  int num_damaged = 0;
  std::uint64_t draw = 0;
  const auto release = [&](std::size_t i) {
    num_damaged += holds_only(live[i].first, live[i].second) ? 0 : 1;
    allocator.free(live[i].first, live[i].second.bytes);
    live[i] = live.back();
    live.pop_back();
  };
  for (int step = 0; step < num_steps; ++step) {
    if (live.size() < 4 || (live.size() < 100 && random.below(draw++, 2) == 0)) {
      const auto bytes = static_cast<std::int64_t>(random.below(draw++, 3000)) + 1;
      auto* pointer = static_cast<std::byte*>(allocator.allocate(bytes));
      const auto mark = static_cast<unsigned char>(random.below(draw++, 256));
      std::memset(pointer, mark, static_cast<std::size_t>(bytes));
      live.push_back({pointer, {bytes, mark}});
    } else {
      release(random.below(draw++, live.size()));
    }
  }
  while (!live.empty()) {
    release(live.size() - 1);
  }
  return num_damaged;
}

}  // namespace

TEST_CASE("CPU blocks are aligned to 64, disjoint, and keep what is written into them") {
  const auto allocator = make_allocator({DeviceType::kCpu});
  CHECK(reinterpret_cast<std::uintptr_t>(allocator->allocate(3)) % 64 == 0);
  CHECK(damaged_blocks(*allocator, 1, 20000) == 0);
}

TEST_CASE("the CPU allocator may be used by several threads at once") {
  const auto allocator = make_allocator({DeviceType::kCpu});
  std::vector<int> num_damaged(4, -1);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < num_damaged.size(); ++i) {
    threads.emplace_back([&, i] {
      num_damaged[i] = damaged_blocks(*allocator, static_cast<std::uint64_t>(i), 3000);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(num_damaged == std::vector<int>(4, 0));
  CHECK(allocator->bytes_in_use() == 0);
}

TEST_CASE("freed neighbours merge, so that the same memory serves one large block") {
  const auto allocator = make_allocator({DeviceType::kCpu});
  std::vector<void*> pointers;
  for (int i = 0; i < 16; ++i) {
    pointers.push_back(allocator->allocate(1024));
  }
  CHECK(allocator->bytes_reserved() == 16 * 1024);
  for (const int i : {3, 1, 2, 0, 15, 7, 5, 6, 4, 9, 8, 14, 10, 12, 11, 13}) {
    allocator->free(pointers[static_cast<std::size_t>(i)], 1024);
  }
  CHECK(allocator->allocate(16 * 1024) == pointers[0]);
  CHECK(allocator->bytes_reserved() == 16 * 1024);
}

TEST_CASE("the smallest free block that is large enough is taken") {
  const auto allocator = make_allocator({DeviceType::kCpu});
  void* large = allocator->allocate(1024);
  void* wall = allocator->allocate(64);
  void* small = allocator->allocate(256);
  allocator->allocate(64);
  allocator->free(large, 1024);
  allocator->free(small, 256);
  CHECK(allocator->allocate(200) == small);
  CHECK(allocator->allocate(512) == large);
  CHECK(wall != nullptr);
}

TEST_CASE("a repeated step takes nothing from the system after the first time") {
  const auto allocator = make_allocator({DeviceType::kCpu});
  damaged_blocks(*allocator, 5, 2000);
  const std::int64_t reserved = allocator->bytes_reserved();
  for (int repeat = 0; repeat < 5; ++repeat) {
    damaged_blocks(*allocator, 5, 2000);
  }
  CHECK(allocator->bytes_reserved() == reserved);
}

TEST_CASE("bytes in use count whole 64s, and the peak is kept until it is reset") {
  const auto allocator = make_allocator({GENERATE(DeviceType::kCpu, DeviceType::kMeta)});
  void* first = allocator->allocate(65);
  void* second = allocator->allocate(64);
  CHECK(allocator->bytes_in_use() == 192);
  allocator->free(first, 65);
  CHECK(allocator->bytes_in_use() == 64);
  CHECK(allocator->peak_bytes() == 192);
  CHECK(allocator->bytes_reserved() == 192);
  allocator->reset_peak();
  CHECK(allocator->peak_bytes() == 64);
  allocator->free(second, 64);
  CHECK(allocator->bytes_in_use() == 0);
  CHECK(allocator->allocate(0) == nullptr);
  CHECK_THROWS_AS(allocator->allocate(-1), InternalError);
}

TEST_CASE("the meta allocator counts more than any machine has") {
  const auto allocator = make_allocator({DeviceType::kMeta});
  CHECK(allocator->allocate(std::int64_t{1} << 50) == nullptr);
  CHECK(allocator->peak_bytes() == std::int64_t{1} << 50);
}

TEST_CASE("asking for more than there is says how much was asked for and was in use") {
  const auto allocator = make_allocator({DeviceType::kCpu});
  allocator->allocate(128);
  std::string message;
  try {
    allocator->allocate(std::int64_t{1} << 60);
  } catch (const DeviceError& error) {
    message = error.message();
  }
  CHECK(message.find("1152921504606846976 bytes asked for, 128 in use") != std::string::npos);
  CHECK_THROWS_AS(make_allocator({DeviceType::kCuda}), DeviceError);
}
