#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/simd.h"

namespace fathom::kernels {
namespace {

// Elements a thread should at least get: below, waking it costs more than the work.
constexpr std::int64_t kGrain = 32768;

void add_cpu(const Tensor& a, const Tensor& b, Tensor& out, Stream& stream) {
  const float* x = a.data<float>();
  const float* y = b.data<float>();
  auto* sum = out.mutable_data<float>();
  stream.parallel_for(out.numel(), kGrain, [=](std::int64_t begin, std::int64_t end) {
    // Vectors written out: a compiler would take the scalar loop when `out` is one of the inputs.
    simd::for_each_block(end - begin, [=](std::int64_t first, auto extent) FATHOM_INLINE_LAMBDA {
      const std::int64_t i = begin + first;
      simd::store(simd::load(x + i, extent) + simd::load(y + i, extent), sum + i, extent);
    });
  });
}

void add_in_place_cpu(Tensor& a, const Tensor& b, Stream& stream) {
  const auto run = [&]<class T>(T* x, const T* y) {
    stream.parallel_for(a.numel(), kGrain, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        x[i] += y[i];
      }
    });
  };
  if (a.dtype() == DType::kInt64) {
    run(a.mutable_data<std::int64_t>(), b.data<std::int64_t>());
  } else {
    run(a.mutable_data<float>(), b.data<float>());
  }
}

void scale_cpu(Tensor& x, float factor, Stream& stream) {
  auto* values = x.mutable_data<float>();
  stream.parallel_for(x.numel(), kGrain, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      values[i] *= factor;
    }
  });
}

template <class T>
void fill_elements(Tensor& x, T value, Stream& stream) {
  auto* values = x.mutable_data<T>();
  stream.parallel_for(x.numel(), kGrain, [=](std::int64_t begin, std::int64_t end) {
    std::fill(values + begin, values + end, value);
  });
}

void fill_cpu(Tensor& x, float value, Stream& stream) {
  switch (x.dtype()) {
    case DType::kFloat32:
      return fill_elements(x, value, stream);
    case DType::kBFloat16:
      return fill_elements(x, BFloat16(value), stream);
    case DType::kInt32:
      return fill_elements(x, static_cast<std::int32_t>(std::llrint(value)), stream);
    case DType::kInt64:
      return fill_elements(x, static_cast<std::int64_t>(std::llrint(value)), stream);
  }
}

void copy_cpu(const Tensor& from, Tensor& to, Stream& stream) {
  FATHOM_CHECK(from.device() == to.device(), "copy: from ", from.device(), " to ", to.device());
  const std::byte* source = from.raw();
  std::byte* destination = to.raw();
  stream.parallel_for(to.size_bytes(), 4 * kGrain, [=](std::int64_t begin, std::int64_t end) {
    std::memcpy(destination + begin, source + begin, static_cast<std::size_t>(end - begin));
  });
}

template <class From, class To>
void convert_elements(const Tensor& from, Tensor& to, Stream& stream) {
  const From* source = from.data<From>();
  To* destination = to.mutable_data<To>();
  stream.parallel_for(to.numel(), kGrain, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      destination[i] = static_cast<To>(source[i]);
    }
  });
}

void convert_cpu(const Tensor& from, Tensor& to, Stream& stream) {
  if (from.dtype() == DType::kFloat32) {
    convert_elements<float, BFloat16>(from, to, stream);
  } else {
    convert_elements<BFloat16, float>(from, to, stream);
  }
}

void copy_columns_cpu(const Tensor& from, int from_first, Tensor& to, int to_first, int num_columns,
                      Stream& stream) {
  if (num_columns == 0) {
    return;
  }
  const std::int64_t from_stride = from.size(1);
  const std::int64_t to_stride = to.size(1);
  const float* source = from.data<float>();
  float* destination = to.mutable_data<float>();
  const auto row_bytes = static_cast<std::size_t>(num_columns) * sizeof(float);
  stream.parallel_for(to.size(0), 1 + kGrain / num_columns,
                      [=](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t row = begin; row < end; ++row) {
                          std::memcpy(destination + row * to_stride + to_first,
                                      source + row * from_stride + from_first, row_bytes);
                        }
                      });
}

const KernelRegistration register_add(add_slot, DeviceType::kCpu, add_cpu);
const KernelRegistration register_add_in_place(add_in_place_slot, DeviceType::kCpu,
                                               add_in_place_cpu);
const KernelRegistration register_scale(scale_slot, DeviceType::kCpu, scale_cpu);
const KernelRegistration register_fill(fill_slot, DeviceType::kCpu, fill_cpu);
const KernelRegistration register_copy(copy_slot, DeviceType::kCpu, copy_cpu);
const KernelRegistration register_convert(convert_slot, DeviceType::kCpu, convert_cpu);
const KernelRegistration register_copy_columns(copy_columns_slot, DeviceType::kCpu,
                                               copy_columns_cpu);

}  // namespace
}  // namespace fathom::kernels
