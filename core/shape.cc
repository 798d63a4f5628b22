#include "core/shape.h"

#include "core/error.h"

namespace fathom {

Shape::Shape(std::initializer_list<std::int64_t> sizes)
    : Shape(std::span<const std::int64_t>(sizes.begin(), sizes.size())) {}

Shape::Shape(std::span<const std::int64_t> sizes) : rank_(static_cast<int>(sizes.size())) {
  FATHOM_CHECK(sizes.size() <= kMaxRank, sizes.size(), " dimensions");
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    FATHOM_CHECK(sizes[i] >= 0, "size ", sizes[i], " of dimension ", i);
    sizes_[i] = sizes[i];
  }
}

std::int64_t Shape::operator[](int dim) const {
  const int index = dim < 0 ? dim + rank_ : dim;
  FATHOM_CHECK(index >= 0 && index < rank_, "dimension ", dim, " of ", *this);
  return sizes_[static_cast<std::size_t>(index)];
}

std::int64_t Shape::numel() const noexcept {
  std::int64_t product = 1;
  for (int i = 0; i < rank_; ++i) {
    product *= sizes_[static_cast<std::size_t>(i)];
  }
  return product;
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '[';
  for (int i = 0; i < shape.rank(); ++i) {
    out << (i > 0 ? ", " : "") << shape[i];
  }
  return out << ']';
}

}  // namespace fathom
