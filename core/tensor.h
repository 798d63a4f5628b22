#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/device.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/shape.h"
#include "core/stream.h"

namespace fathom {

// A contiguous, row-major array on one device. Copying copies the handle, not the data; the storage
// is freed with the last handle to it. A default-constructed tensor is empty: defined() is false.
class Tensor {
 public:
  Tensor() = default;
  // Uninitialized memory from the stream's allocator.
  static Tensor empty(Shape shape, DType dtype, Stream& stream);
  // All bytes zero.
  static Tensor zeros(Shape shape, DType dtype, Stream& stream);

  bool defined() const noexcept { return storage_ != nullptr; }
  const Shape& shape() const noexcept { return shape_; }
  std::int64_t size(int dim) const { return shape_[dim]; }
  std::int64_t numel() const noexcept { return shape_.numel(); }
  DType dtype() const noexcept { return dtype_; }
  Device device() const noexcept;
  std::int64_t size_bytes() const noexcept { return numel() * size_of(dtype_); }

  // Views that share the storage.
  Tensor reshape(Shape shape) const;                          // same number of elements
  Tensor narrow(std::int64_t begin, std::int64_t end) const;  // rows [begin, end) of dimension 0
  Tensor view_elements(std::int64_t first_element,
                       Shape shape) const;  // shape.numel() elements from first_element
  // The first bytes read as another dtype, for an operation that converts in place. Throws
  // InternalError when they are too few.
  Tensor view_as(DType dtype, Shape shape) const;

  // Checked against dtype(); null on the meta device.
  template <class T>
  const T* data() const {
    FATHOM_CHECK(kDTypeOf<T> == dtype_, "tensor holds ", dtype_, ", asked for ", kDTypeOf<T>);
    return reinterpret_cast<const T*>(raw());
  }
  template <class T>
  T* mutable_data() {
    FATHOM_CHECK(kDTypeOf<T> == dtype_, "tensor holds ", dtype_, ", asked for ", kDTypeOf<T>);
    return reinterpret_cast<T*>(raw());
  }
  // CPU tensors: all elements.
  template <class T>
  std::span<const T> values() const {
    return {data<T>(), static_cast<std::size_t>(numel())};
  }
  template <class T>
  std::span<T> mutable_values() {
    return {mutable_data<T>(), static_cast<std::size_t>(numel())};
  }
  std::byte* raw() const noexcept;  // first byte; null on the meta device

 private:
  struct Storage;
  std::shared_ptr<Storage> storage_;
  Shape shape_{0};
  DType dtype_ = DType::kFloat32;
  std::int64_t offset_bytes_ = 0;
};

}  // namespace fathom
