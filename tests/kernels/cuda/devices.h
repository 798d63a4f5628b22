#pragma once

#include <cmath>
#include <vector>

#include "core/host_copy.h"
#include "kernels/elementwise.h"
#include "tests/kernels/op_reference.h"

namespace fathom::kernels {

// Both devices of a test: an operation's CUDA kernel is held against its CPU kernel on the same
// inputs.
struct Devices {
  Stream cpu;
  Stream cuda{Device{DeviceType::kCuda, 0}};

  // The values of a float32 CPU tensor as `dtype` allows them, on the CPU: what both kernels are
  // given.
  Tensor rounded(const Tensor& values, DType dtype) {
    std::vector<float> numbers = vector_of(values);
    if (dtype == DType::kBFloat16) {
      for (float& number : numbers) {
        number = static_cast<float>(BFloat16(number));
      }
    }
    return tensor_of(numbers, values.shape(), cpu);
  }
  // A CPU tensor on the GPU; float32 becomes `dtype`.
  Tensor to_cuda(const Tensor& values, DType dtype) {
    if (values.dtype() != DType::kFloat32 || dtype == DType::kFloat32) {
      Tensor there = Tensor::empty(values.shape(), values.dtype(), cuda);
      copy_from_host({values.raw(), static_cast<std::size_t>(values.size_bytes())}, there, cuda);
      return there;
    }
    Tensor there = Tensor::empty(values.shape(), DType::kBFloat16, cuda);
    std::vector<BFloat16> halves;
    for (const float number : values.values<float>()) {
      halves.emplace_back(number);
    }
    from_host<BFloat16>(halves, there, cuda);
    return there;
  }
  Tensor to_cuda(const Tensor& values) { return to_cuda(values, DType::kFloat32); }
  // The same at an address that 16-byte accesses do not allow.
  Tensor to_cuda_misaligned(const Tensor& values, DType dtype) {
    const Tensor there = Tensor::empty(Shape{values.numel() + 1}, dtype, cuda);
    Tensor part = there.view_elements(1, values.shape());
    copy(to_cuda(values, dtype), part, cuda);
    return part;
  }
  // A GPU tensor on the CPU; bfloat16 becomes float32.
  Tensor to_cpu(const Tensor& values) {
    if (values.dtype() != DType::kBFloat16) {
      Tensor here = Tensor::empty(values.shape(), values.dtype(), cpu);
      copy_to_host(values, {here.raw(), static_cast<std::size_t>(here.size_bytes())}, cuda);
      return here;
    }
    std::vector<float> numbers;
    for (const BFloat16 number : to_host<BFloat16>(values, cuda)) {
      numbers.push_back(static_cast<float>(number));
    }
    return tensor_of(numbers, values.shape(), cpu);
  }
  // Uninitialized: NaN on the emulated device.
  Tensor empty(const Shape& shape, DType dtype) { return Tensor::empty(shape, dtype, cuda); }
};

// Both, where what is computed beside an element must not show in it on the GPU.
inline Devices devices_of_fixed_order() {
  return {.cpu = Stream(),
          .cuda = Stream(Device{DeviceType::kCuda, 0}, /*num_threads=*/1, SumOrder::kFixed)};
}

// The largest difference of a GPU tensor from a float32 CPU tensor, relative to max(1, |want|).
inline double largest_error(const Tensor& found, const Tensor& want, Devices& devices) {
  return largest_error(devices.to_cpu(found), doubles(want));
}

// What one rounding of a result to `dtype` and a few of float32 before it may cost.
inline double tolerance(DType dtype) { return dtype == DType::kBFloat16 ? 1.0 / 256 : 2e-6; }

}  // namespace fathom::kernels
