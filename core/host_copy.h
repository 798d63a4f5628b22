#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/stream.h"
#include "core/tensor.h"

namespace fathom {

// Between a tensor and host memory, in the order of the stream; on the CPU plain copies. On the
// meta device nothing moves. Throw InternalError when the numbers of bytes differ.
// Returns when the bytes are in `to`.
void copy_to_host(const Tensor& from, std::span<std::byte> to, Stream& stream);
// Returns when `from` may be changed again.
void copy_from_host(std::span<const std::byte> from, Tensor& to, Stream& stream);

// All elements; zeros from the meta device.
template <class T>
std::vector<T> to_host(const Tensor& tensor, Stream& stream) {
  FATHOM_CHECK(kDTypeOf<T> == tensor.dtype(), "tensor holds ", tensor.dtype(), ", asked for ",
               kDTypeOf<T>);
  std::vector<T> values(static_cast<std::size_t>(tensor.numel()));
  copy_to_host(tensor, std::as_writable_bytes(std::span(values)), stream);
  return values;
}

template <class T>
void from_host(std::span<const T> values, Tensor& tensor, Stream& stream) {
  FATHOM_CHECK(kDTypeOf<T> == tensor.dtype(), "tensor holds ", tensor.dtype(), ", given ",
               kDTypeOf<T>);
  copy_from_host(std::as_bytes(values), tensor, stream);
}

}  // namespace fathom
