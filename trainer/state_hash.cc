#include "trainer/state_hash.h"

#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "core/error.h"
#include "data/checksum.h"

namespace fathom::trainer {
namespace {

__extension__ using UInt128 = unsigned __int128;

// Both halves of the product, so that every bit of a factor reaches every bit of the result; the
// mixing step of wyhash and XXH3.
std::uint64_t multiply_and_fold(std::uint64_t a, std::uint64_t b) noexcept {
  const UInt128 product = static_cast<UInt128>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// A hash for the elements of one tensor: two multiplications each, about 1 ns. (Twice that with
// XXH3 of 16 bytes.)
class ElementHash {
 public:
  explicit ElementHash(const std::string& name) {
    data::Checksum128 checksum;
    checksum.add(std::as_bytes(std::span(name)));
    seed_ = checksum.value();
    seed_.low |= 1;
  }
  std::uint64_t operator()(std::uint64_t index, std::uint64_t bits) const noexcept {
    constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15U;  // 2^64 / golden ratio
    return multiply_and_fold(multiply_and_fold(index ^ seed_.high, kOdd) ^ bits, seed_.low);
  }

 private:
  data::Bits128 seed_;
};

// Bits is an unsigned integer as wide as an element.
template <class Bits>
std::uint64_t hash_rows(const parallel::StateSlice& slice, const std::byte* elements,
                        const ElementHash hash) {
  const std::int64_t row_size = slice.global_shape[-1];
  std::uint64_t sum = 0;
  for (std::int64_t row = 0; row < slice.num_rows; ++row) {
    const std::int64_t begin = (slice.row_begin + row) * row_size + slice.column_begin;
    for (std::int64_t column = 0; column < slice.num_columns; ++column) {
      Bits bits;
      std::memcpy(&bits, elements, sizeof(Bits));
      elements += sizeof(Bits);
      sum += hash(static_cast<std::uint64_t>(begin + column), bits);
    }
  }
  return sum;
}

}  // namespace

std::uint64_t hash_elements(const parallel::StateSlice& slice, const Tensor& local) {
  FATHOM_CHECK(local.numel() == slice.num_rows * slice.num_columns, slice.key, ": ", local.shape(),
               " for ", slice.num_rows, " x ", slice.num_columns);
  const ElementHash hash(concat(slice.key, ' ', local.dtype(), ' ', slice.global_shape));
  switch (size_of(local.dtype())) {
    case 2:
      return hash_rows<std::uint16_t>(slice, local.raw(), hash);
    case 4:
      return hash_rows<std::uint32_t>(slice, local.raw(), hash);
    default:
      FATHOM_CHECK(size_of(local.dtype()) == 8, local.dtype());
      return hash_rows<std::uint64_t>(slice, local.raw(), hash);
  }
}

std::uint64_t hash_integer(const std::string& key, std::int64_t value) {
  return ElementHash(key)(0, static_cast<std::uint64_t>(value));
}

void StateHash::tensor(const parallel::StateSlice& slice, Tensor& local) {
  if (slice.is_owner) {
    elements_ += hash_elements(slice, local);
  }
}

void StateHash::integer(const std::string& key, std::int64_t& value) {
  integers_ += hash_integer(key, value);
}

std::uint64_t StateHash::total(parallel::Communicator& world) const {
  const std::array<std::int64_t, 2> mine = {static_cast<std::int64_t>(elements_),
                                            static_cast<std::int64_t>(integers_)};
  std::vector<std::int64_t> all(mine.size() * static_cast<std::size_t>(world.world_size()));
  world.all_gather_integers(mine, all);
  std::uint64_t sum = integers_;
  for (std::size_t i = 0; i < all.size(); i += mine.size()) {
    sum += static_cast<std::uint64_t>(all[i]);
    FATHOM_CHECK(all[i + 1] == all[1], "ranks 0 and ", i / mine.size(),
                 " differ in a number of the state that all ranks share");
  }
  return sum;
}

}  // namespace fathom::trainer
