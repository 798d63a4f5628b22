#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>

namespace fathom {

// The sizes of a tensor, outermost first; at most 6 dimensions.
class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;  // rank 0, one element
  Shape(std::initializer_list<std::int64_t> sizes);
  explicit Shape(std::span<const std::int64_t> sizes);

  int rank() const noexcept { return rank_; }
  // Size of one dimension; negative counts from the innermost. Throws InternalError out of range.
  std::int64_t operator[](int dim) const;
  std::int64_t numel() const noexcept;
  std::span<const std::int64_t> sizes() const noexcept {
    return {sizes_.data(), static_cast<std::size_t>(rank_)};
  }
  bool operator==(const Shape&) const = default;

 private:
  std::array<std::int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape);

}  // namespace fathom
