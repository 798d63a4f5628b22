#include "kernels/cuda/sm90_layout.h"

#include "tests/support/catch.h"

namespace fathom::kernels::cuda {
namespace {

constexpr std::uint32_t kAddress = 0x8400;  // of a panel: a multiple of 1024

std::uint32_t field(std::uint64_t descriptor, int bit) {
  return static_cast<std::uint32_t>(descriptor >> bit & 0x3fffU) * 16;
}

TEST_CASE("The 128-byte swizzle permutes the chunks of a row by the row's place among eight") {
  for (std::uint32_t row = 0; row < 20; ++row) {
    for (std::uint32_t chunk = 0; chunk < 8; ++chunk) {
      const std::uint32_t want = row * 128 + (chunk ^ (row % 8)) * 16;
      CHECK(swizzle(row * 128 + chunk * 16) == want);
      CHECK(swizzle(row * 128 + chunk * 16 + 6) == want + 6);
    }
  }
}

// PTX ISA, "Matrix Descriptor Format"; the encodings of its example of bf16, MN-major, 64-byte
// swizzle are 32 and 64.
TEST_CASE("Matrix descriptors have the fields of the PTX ISA") {
  CHECK(matrix_descriptor(0, 256 * 2, 512 * 2) == (0x4000004000200000ULL));
  CHECK(matrix_descriptor(0x12350, 0, 1024) == (0x4000004000001235ULL));
  CHECK(matrix_descriptor(0x52350, 0, 0) == (0x4000000000001235ULL));  // 18 bits of an address
}

// Where the canonical layout of the descriptor's major-ness (PTX ISA, "Canonical Layouts") puts an
// element that is (index, depth) from the descriptor's start.
std::uint32_t canonical(std::uint64_t descriptor, Major major, std::uint32_t index,
                        std::uint32_t depth) {
  const std::uint32_t leading = field(descriptor, 16);
  const std::uint32_t stride = field(descriptor, 32);
  const std::uint32_t offset = major == Major::kK ? index % 8 * 128 + index / 8 * stride + depth * 2
                                                  : index % 64 * 2 + index / 64 * leading +
                                                        depth % 8 * 128 + depth / 8 * stride;
  return swizzle(field(descriptor, 0) + offset);
}

TEST_CASE("Descriptors find the elements of a panel where tensor loads have put them") {
  for (const int depth : {0, 16, 32, 48}) {
    for (const int index : {0, 64}) {
      const auto k_major = panel_descriptor<Major::kK>(kAddress, index, depth);
      const auto mn_major = panel_descriptor<Major::kMN>(kAddress, index, depth);
      for (std::uint32_t i = 0; i < 64; ++i) {
        for (std::uint32_t k = 0; k < 16; ++k) {
          const auto row = static_cast<std::uint32_t>(index) + i;
          const auto column = static_cast<std::uint32_t>(depth) + k;
          // One box, a row an index; or boxes of 64 depths by 64 indices.
          CHECK(canonical(k_major, Major::kK, i, k) == swizzle(kAddress + row * 128 + column * 2));
          CHECK(canonical(mn_major, Major::kMN, i, k) ==
                swizzle(kAddress + row / 64 * 64 * 128 + column * 128 + row % 64 * 2));
        }
      }
    }
  }
}

TEST_CASE("A descriptor from the start covers all indices of a panel") {
  const auto mn_major = panel_descriptor<Major::kMN>(kAddress, 0, 0);
  for (std::uint32_t i = 0; i < 256; ++i) {
    CHECK(canonical(mn_major, Major::kMN, i, 9) ==
          swizzle(kAddress + i / 64 * 64 * 128 + 9 * 128 + i % 64 * 2));
  }
}

}  // namespace
}  // namespace fathom::kernels::cuda
