#include "core/pool_allocator.h"

#include <cstring>

#include "tests/support/catch.h"

using namespace fathom;

TEST_CASE("A pool takes pieces of its parent, uses them again and gives them back at its end") {
  constexpr std::int64_t kPiece = std::int64_t{16} << 20;
  const auto parent = make_allocator({DeviceType::kCpu});
  {
    const auto pool = make_pool_allocator(parent);
    CHECK(parent->bytes_in_use() == 0);
    void* first = pool->allocate(1000);
    void* second = pool->allocate(10);
    CHECK(reinterpret_cast<std::uintptr_t>(second) % 64 == 0);
    std::memset(first, 1, 1000);
    std::memset(second, 2, 10);
    CHECK(static_cast<unsigned char*>(first)[999] == 1);
    CHECK(pool->bytes_in_use() == 1024 + 256);
    CHECK(pool->bytes_reserved() == kPiece);
    CHECK(parent->bytes_in_use() == kPiece);
    pool->free(first, 1000);
    CHECK(pool->allocate(900) == first);
    // Two pieces never become one, though they may be neighbours.
    void* whole = pool->allocate(kPiece);
    CHECK(pool->bytes_reserved() == 2 * kPiece);
    pool->free(whole, kPiece);
    pool->free(first, 900);
    pool->free(second, 10);
    void* larger = pool->allocate(2 * kPiece);
    CHECK(pool->bytes_reserved() == 4 * kPiece);
    pool->free(larger, 2 * kPiece);
    CHECK(pool->bytes_in_use() == 0);
    CHECK(pool->peak_bytes() == 2 * kPiece);
    CHECK(parent->bytes_in_use() == 4 * kPiece);
    CHECK(pool->allocate(0) == nullptr);
  }
  CHECK(parent->bytes_in_use() == 0);
}
