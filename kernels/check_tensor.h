#pragma once

#include <cstdint>
#include <source_location>
#include <string_view>

#include "core/device.h"
#include "core/error.h"
#include "core/stream.h"
#include "core/tensor.h"

namespace fathom::kernels {

// What the public function of an operation demands of its tensors. Each call throws InternalError,
// naming operation, tensor and both the found and the wanted, when the tensor is not on the
// stream's device or not as described.
class TensorCheck {
 public:
  TensorCheck(std::string_view operation, const Stream& stream,
              std::source_location where = std::source_location::current())
      : operation_(operation), device_(stream.device()), where_(where) {}

  void shape(std::string_view name, const Tensor& tensor, const Shape& want,
             DType dtype = DType::kFloat32) const {
    if (tensor.shape() != want) {
      fail(name, tensor.shape(), want);
    }
    dtype_and_device(name, tensor, dtype);
  }
  // [num_rows, at least min_columns]
  void rows(std::string_view name, const Tensor& tensor, std::int64_t num_rows,
            std::int64_t min_columns, DType dtype = DType::kFloat32) const {
    if (tensor.shape().rank() != 2 || tensor.size(0) != num_rows || tensor.size(1) < min_columns) {
      fail(name, tensor.shape(), concat("[", num_rows, ", >= ", min_columns, "]"));
    }
    dtype_and_device(name, tensor, dtype);
  }
  // The dtype of the activations of a call, and of its weights: that of this one of them. The CPU
  // has float32 alone, other devices bfloat16 too.
  DType activation_dtype(std::string_view name, const Tensor& tensor) const {
    if (tensor.dtype() != DType::kBFloat16 || device_.type == DeviceType::kCpu) {
      dtype_and_device(name, tensor, DType::kFloat32);
    } else {
      dtype_and_device(name, tensor, DType::kBFloat16);
    }
    return tensor.dtype();
  }
  void rank(std::string_view name, const Tensor& tensor, int want) const {
    if (tensor.shape().rank() != want) {
      fail(name, tensor.shape(), concat(want, " dimensions"));
    }
  }
  void numel(std::string_view name, const Tensor& tensor, std::int64_t want, DType dtype) const {
    if (tensor.numel() != want) {
      fail(name, tensor.shape(), concat(want, " elements"));
    }
    dtype_and_device(name, tensor, dtype);
  }
  void dtype_and_device(std::string_view name, const Tensor& tensor, DType dtype) const {
    if (tensor.dtype() != dtype) {
      fail(name, tensor.dtype(), dtype);
    }
    if (tensor.device() != device_) {
      fail(name, tensor.device(), device_);
    }
  }

 private:
  template <class Found, class Want>
  [[noreturn]] void fail(std::string_view name, const Found& found, const Want& want) const {
    throw InternalError(concat(operation_, ": ", name, " is ", found, ", want ", want), where_);
  }

  std::string_view operation_;
  Device device_;
  std::source_location where_;
};

}  // namespace fathom::kernels
