#include "data/permutation.h"

#include <cmath>

#include "core/error.h"

namespace fathom::data {
namespace {

// 0 .. bound - 1, from all 64 bits mixed (the finalizer of SplitMix64, Steele et al., OOPSLA'14).
std::uint64_t mix_below(std::uint64_t value, std::uint64_t bound) noexcept {
  value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ value >> 27) * 0x94d049bb133111ebULL;
  value ^= value >> 31;
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>(static_cast<Wide>(value) * bound >> 64);
}

}  // namespace

IndexPermutation::IndexPermutation(std::int64_t size, const RandomSource& keys)
    : size_(static_cast<std::uint64_t>(size)) {
  FATHOM_CHECK(size > 0 && size < std::int64_t{1} << 62, size);
  num_rows_ = static_cast<std::uint64_t>(std::sqrt(static_cast<double>(size)));
  num_rows_ = num_rows_ == 0 ? 1 : num_rows_;
  num_columns_ = (size_ + num_rows_ - 1) / num_rows_;
  for (std::size_t round = 0; round < kNumRounds; ++round) {
    keys_[round] = keys.bits(round);
  }
}

std::int64_t IndexPermutation::operator()(std::int64_t index) const noexcept {
  auto value = static_cast<std::uint64_t>(index);
  do {
    std::uint64_t row = value / num_columns_;
    std::uint64_t column = value % num_columns_;
    for (std::size_t round = 0; round < kNumRounds; round += 2) {
      row += mix_below(keys_[round] + column * 0x9e3779b97f4a7c15ULL, num_rows_);
      row -= row >= num_rows_ ? num_rows_ : 0;
      column += mix_below(keys_[round + 1] + row * 0x9e3779b97f4a7c15ULL, num_columns_);
      column -= column >= num_columns_ ? num_columns_ : 0;
    }
    value = row * num_columns_ + column;
  } while (value >= size_);
  return static_cast<std::int64_t>(value);
}

std::int64_t IndexPermutation::inverse(std::int64_t entry) const noexcept {
  auto value = static_cast<std::uint64_t>(entry);
  do {
    std::uint64_t row = value / num_columns_;
    std::uint64_t column = value % num_columns_;
    for (std::size_t round = kNumRounds; round > 0; round -= 2) {
      column +=
          num_columns_ - mix_below(keys_[round - 1] + row * 0x9e3779b97f4a7c15ULL, num_columns_);
      column -= column >= num_columns_ ? num_columns_ : 0;
      row += num_rows_ - mix_below(keys_[round - 2] + column * 0x9e3779b97f4a7c15ULL, num_rows_);
      row -= row >= num_rows_ ? num_rows_ : 0;
    }
    value = row * num_columns_ + column;
  } while (value >= size_);
  return static_cast<std::int64_t>(value);
}

}  // namespace fathom::data
