#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "core/host_copy.h"
#include "core/tensor.h"
#include "tests/kernels/product_reference.h"
#include "tests/support/catch.h"

namespace fathom::kernels {

template <class T>
Tensor tensor_of(const std::vector<T>& values, const Shape& shape, Stream& stream) {
  Tensor tensor = Tensor::empty(shape, kDTypeOf<T>, stream);
  std::copy(values.begin(), values.end(), tensor.mutable_values<T>().begin());
  return tensor;
}

inline Tensor filled(const Shape& shape, float value, Stream& stream) {
  Tensor tensor = Tensor::empty(shape, DType::kFloat32, stream);
  std::fill_n(tensor.mutable_data<float>(), tensor.numel(), value);
  return tensor;
}

template <class T = float>
std::vector<T> vector_of(const Tensor& tensor) {
  return {tensor.data<T>(), tensor.data<T>() + tensor.numel()};
}

inline std::vector<double> doubles(const Tensor& tensor) {
  return {tensor.data<float>(), tensor.data<float>() + tensor.numel()};
}

// The largest of |found - want| / max(1, |want|); infinite when a number is NaN or the sizes
// differ.
inline double largest_error(const Tensor& found, const std::vector<double>& want) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (static_cast<std::size_t>(found.numel()) != want.size()) {
    return kInfinity;
  }
  double largest = 0.0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double error =
        std::abs(found.data<float>()[i] - want[i]) / std::max(1.0, std::abs(want[i]));
    largest = std::isnan(error) ? kInfinity : std::max(largest, error);
  }
  return largest;
}

// dL/dx by central differences.
inline std::vector<double> finite_differences(
    const std::function<double(const std::vector<double>&)>& loss, std::vector<double> x,
    double step = 1e-5) {
  std::vector<double> gradient;
  for (double& element : x) {
    const double before = element;
    element = before + step;
    const double above = loss(x);
    element = before - step;
    const double below = loss(x);
    element = before;
    gradient.push_back((above - below) / (2.0 * step));
  }
  return gradient;
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += a[i] * b[i];
  }
  return sum;
}

inline std::vector<std::byte> bytes_of(const Tensor& tensor) {
  return {tensor.raw(), tensor.raw() + tensor.size_bytes()};
}

// `run` makes its inputs and returns its outputs: the same bits on 1, 2, 3 and 4 threads.
// a = max(a, b) of float32, NaN where either is: the all_reduce over parts that a test has made one
// after another.
inline void take_maximum(Tensor& a, const Tensor& b, Stream& stream) {
  std::vector<float> largest = to_host<float>(a, stream);
  const std::vector<float> others = to_host<float>(b, stream);
  std::transform(largest.begin(), largest.end(), others.begin(), largest.begin(),
                 [](float x, float y) { return x < y || std::isnan(y) ? y : x; });
  from_host<float>(largest, a, stream);
}

inline void check_same_bits_on_any_threads(const std::function<std::vector<Tensor>(Stream&)>& run) {
  Stream serial;
  const std::vector<Tensor> want = run(serial);
  for (const int num_threads : {2, 3, 4}) {
    Stream stream(Device{}, num_threads);
    const std::vector<Tensor> found = run(stream);
    for (std::size_t i = 0; i < want.size(); ++i) {
      CHECK(bytes_of(found[i]) == bytes_of(want[i]));
    }
  }
}

}  // namespace fathom::kernels
