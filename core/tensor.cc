#include "core/tensor.h"

#include <cstring>

namespace fathom {

struct Tensor::Storage {
  Storage(Device on, std::shared_ptr<Allocator> from, std::int64_t num_bytes)
      : device(on), allocator(std::move(from)), bytes(num_bytes) {
    pointer = static_cast<std::byte*>(allocator->allocate(bytes));
  }
  ~Storage() { allocator->free(pointer, bytes); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Device device;
  std::shared_ptr<Allocator> allocator;
  std::int64_t bytes;
  std::byte* pointer;
};

Tensor Tensor::empty(Shape shape, DType dtype, Stream& stream) {
  Tensor tensor;
  tensor.shape_ = shape;
  tensor.dtype_ = dtype;
  tensor.storage_ = std::make_shared<Storage>(stream.device(), stream.allocator(),
                                              shape.numel() * size_of(dtype));
  return tensor;
}

Tensor Tensor::zeros(Shape shape, DType dtype, Stream& stream) {
  Tensor tensor = empty(shape, dtype, stream);
  if (tensor.raw() == nullptr) {
    return tensor;
  }
  if (DeviceQueue* queue = stream.queue()) {
    queue->fill_zero(tensor.raw(), tensor.size_bytes());
  } else {
    std::memset(tensor.raw(), 0, static_cast<std::size_t>(tensor.size_bytes()));
  }
  return tensor;
}

Device Tensor::device() const noexcept { return storage_ ? storage_->device : Device{}; }

std::byte* Tensor::raw() const noexcept {
  return storage_ && storage_->pointer != nullptr ? storage_->pointer + offset_bytes_ : nullptr;
}

Tensor Tensor::reshape(Shape shape) const {
  FATHOM_CHECK(shape.numel() == numel(), shape_, " to ", shape);
  Tensor view = *this;
  view.shape_ = shape;
  return view;
}

Tensor Tensor::narrow(std::int64_t begin, std::int64_t end) const {
  FATHOM_CHECK(shape_.rank() >= 1 && 0 <= begin && begin <= end && end <= shape_[0], "rows ", begin,
               " to ", end, " of ", shape_);
  std::array<std::int64_t, Shape::kMaxRank> sizes{};
  std::copy(shape_.sizes().begin(), shape_.sizes().end(), sizes.begin());
  const std::int64_t row_elements = shape_[0] == 0 ? 0 : numel() / shape_[0];
  sizes[0] = end - begin;
  Tensor view = *this;
  view.shape_ =
      Shape(std::span<const std::int64_t>(sizes.data(), static_cast<std::size_t>(shape_.rank())));
  view.offset_bytes_ += begin * row_elements * size_of(dtype_);
  return view;
}

Tensor Tensor::view_elements(std::int64_t first_element, Shape shape) const {
  FATHOM_CHECK(first_element >= 0 && first_element + shape.numel() <= numel(), shape,
               " at element ", first_element, " of ", shape_);
  Tensor view = *this;
  view.shape_ = shape;
  view.offset_bytes_ += first_element * size_of(dtype_);
  return view;
}

Tensor Tensor::view_as(DType dtype, Shape shape) const {
  FATHOM_CHECK(shape.numel() * size_of(dtype) <= size_bytes(), dtype, ' ', shape, " in ", dtype_,
               ' ', shape_);
  Tensor view = *this;
  view.shape_ = shape;
  view.dtype_ = dtype;
  return view;
}

}  // namespace fathom
