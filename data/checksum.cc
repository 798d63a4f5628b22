#include "data/checksum.h"

#include <xxhash.h>

#include <new>

#include "core/error.h"

namespace fathom::data {
namespace {

detail::ChecksumState make_state() {
  detail::ChecksumState state(XXH3_createState());
  if (state == nullptr) {
    throw std::bad_alloc();
  }
  return state;
}

}  // namespace

std::uint64_t checksum(std::string_view bytes) noexcept {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::uint64_t checksum(std::span<const std::byte> bytes) noexcept {
  return XXH3_64bits(bytes.data(), bytes.size());
}

void detail::FreeChecksum::operator()(XXH3_state_s* state) const noexcept { XXH3_freeState(state); }

Checksum64::Checksum64(std::uint64_t seed) : state_(make_state()) {
  FATHOM_CHECK(XXH3_64bits_reset_withSeed(state_.get(), seed) == XXH_OK);
}

void Checksum64::add(std::span<const std::byte> bytes) {
  FATHOM_CHECK(XXH3_64bits_update(state_.get(), bytes.data(), bytes.size()) == XXH_OK);
}

std::uint64_t Checksum64::value() const { return XXH3_64bits_digest(state_.get()); }

Checksum128::Checksum128() : state_(make_state()) {
  FATHOM_CHECK(XXH3_128bits_reset(state_.get()) == XXH_OK);
}

void Checksum128::add(std::span<const std::byte> bytes) {
  FATHOM_CHECK(XXH3_128bits_update(state_.get(), bytes.data(), bytes.size()) == XXH_OK);
}

Bits128 Checksum128::value() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
  return {.high = hash.high64, .low = hash.low64};
}

}  // namespace fathom::data
