#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "core/bfloat16.h"
#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/elementwise.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;

template <int N, class Make, class Out, class... In>
__device__ __forceinline__ void make_pack(const Make& make, Out* out, Pack<In, N>... in) {
  Pack<Out, N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    pack.values[i] = make(in.values[i]...);
  }
  *reinterpret_cast<Pack<Out, N>*>(out) = pack;
}

// out[i] = make(in[i]...), N neighbours a thread; out may be one of the inputs.
template <int N, class Make, class Out, class... In>
__global__ void __launch_bounds__(kThreads)
    make_elements(std::int64_t count, Make make, Out* out, const In*... in) {
  const std::int64_t first = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (first + N <= count) {
    make_pack<N>(make, out + first, *reinterpret_cast<const Pack<In, N>*>(in + first)...);
    return;
  }
  for (std::int64_t i = first; i < count; ++i) {
    out[i] = make(in[i]...);
  }
}

template <int N, class Make, class Out, class... In>
void launch_make(std::int64_t count, Make make, Stream& stream, Out* out, const In*... in) {
  void (*const kernel)(std::int64_t, Make, Out*, const In*...) = make_elements<N, Make, Out, In...>;
  launch(kernel, {blocks_for(count, std::int64_t{kThreads} * N), kThreads}, stream, count, make,
         out, in...);
}

template <int N, class T>
bool starts_pack(const T* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % sizeof(Pack<T, N>) == 0;
}

// By accesses of 16 bytes of the widest type where all pointers allow it.
template <class Make, class Out, class... In>
void make_all(std::int64_t count, Make make, Stream& stream, Out* out, const In*... in) {
  constexpr int kPack = static_cast<int>(16 / std::max({sizeof(Out), sizeof(In)...}));
  if (starts_pack<kPack>(out) && (starts_pack<kPack>(in) && ...)) {
    launch_make<kPack>(count, make, stream, out, in...);
  } else {
    launch_make<1>(count, make, stream, out, in...);
  }
}

struct Add {
  template <class T>
  __device__ __forceinline__ T operator()(T x, T y) const {
    return from_float<T>(to_float(x) + to_float(y));
  }
  __device__ __forceinline__ std::int64_t operator()(std::int64_t x, std::int64_t y) const {
    return x + y;
  }
};

struct Scale {
  float factor;
  template <class T>
  __device__ __forceinline__ T operator()(T x) const {
    return from_float<T>(to_float(x) * factor);
  }
};

template <class T>
struct Constant {
  T value;
  __device__ __forceinline__ T operator()() const { return value; }
};

template <class To>
struct Convert {
  template <class From>
  __device__ __forceinline__ To operator()(From x) const {
    return from_float<To>(to_float(x));
  }
};

void add_cuda(const Tensor& a, const Tensor& b, Tensor& out, Stream& stream) {
  with_activation_type(out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    make_all(out.numel(), Add{}, stream, device_data<T>(out), device_data<T>(a), device_data<T>(b));
  });
}

void add_in_place_cuda(Tensor& a, const Tensor& b, Stream& stream) {
  const auto run = [&]<class T>(T* x, const T* y) {
    make_all(a.numel(), Add{}, stream, x, static_cast<const T*>(x), y);
  };
  if (a.dtype() == DType::kInt64) {
    run(device_data<std::int64_t>(a), device_data<std::int64_t>(b));
    return;
  }
  with_activation_type(a.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    run(device_data<T>(a), device_data<T>(b));
  });
}

void scale_cuda(Tensor& x, float factor, Stream& stream) {
  with_activation_type(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* const values = device_data<T>(x);
    make_all(x.numel(), Scale{factor}, stream, values, static_cast<const T*>(values));
  });
}

template <class T>
void fill_elements(Tensor& x, T value, Stream& stream) {
  make_all(x.numel(), Constant<T>{value}, stream, device_data<T>(x));
}

void fill_cuda(Tensor& x, float value, Stream& stream) {
  switch (x.dtype()) {
    case DType::kFloat32:
      return fill_elements(x, value, stream);
    case DType::kBFloat16:
      return fill_elements(x, BFloat16(value).bits(), stream);
    case DType::kInt32:
      return fill_elements(x, static_cast<std::int32_t>(std::llrint(value)), stream);
    case DType::kInt64:
      return fill_elements(x, static_cast<std::int64_t>(std::llrint(value)), stream);
  }
}

void copy_cuda(const Tensor& from, Tensor& to, Stream& stream) {
  FATHOM_CHECK(from.device() == stream.device() && to.device() == stream.device(), "copy: from ",
               from.device(), " to ", to.device(), " on a stream of ", stream.device());
  if (to.size_bytes() > 0) {
    cuda_queue(stream).copy(from.raw(), to.raw(), to.size_bytes());
  }
}

void convert_cuda(const Tensor& from, Tensor& to, Stream& stream) {
  if (from.dtype() == DType::kFloat32) {
    make_all(to.numel(), Convert<__nv_bfloat16>{}, stream, device_data<__nv_bfloat16>(to),
             device_data<float>(from));
  } else {
    make_all(to.numel(), Convert<float>{}, stream, device_data<float>(to),
             device_data<__nv_bfloat16>(from));
  }
}

// A range of columns of a matrix, in units of equal size.
struct ColumnRange {
  std::byte* data;  // of the matrix
  std::int64_t first;
  std::int64_t stride;  // from row to row
};

template <class Unit>
__global__ void __launch_bounds__(RowShare::kThreads)
    copy_units(RowShare share, ColumnRange from, ColumnRange to) {
  share.for_each([=](std::int64_t row, std::int64_t unit) {
    reinterpret_cast<Unit*>(to.data)[row * to.stride + to.first + unit] =
        reinterpret_cast<const Unit*>(from.data)[row * from.stride + from.first + unit];
  });
}

// `from` and `to` in bytes, `width` of them a row.
template <class Unit>
void copy_in_units(const ColumnRange& from, const ColumnRange& to, std::int64_t num_rows,
                   std::int64_t width, Stream& stream) {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(Unit));
  const auto in_units = [](const ColumnRange& range) {
    return ColumnRange{range.data, range.first / kSize, range.stride / kSize};
  };
  const RowShare share = RowShare::of(num_rows, width / kSize);
  launch(copy_units<Unit>, {share.num_blocks(), RowShare::kThreads}, stream, share, in_units(from),
         in_units(to));
}

void copy_columns_cuda(const Tensor& from, int from_first, Tensor& to, int to_first,
                       int num_columns, Stream& stream) {
  if (num_columns == 0) {
    return;
  }
  const std::int64_t size = size_of(to.dtype());
  const ColumnRange source{from.raw(), from_first * size, from.size(1) * size};
  const ColumnRange destination{to.raw(), to_first * size, to.size(1) * size};
  const std::int64_t width = num_columns * size;
  // A power of two that divides this divides every address of a row's beginning and end.
  const std::uintptr_t addresses =
      reinterpret_cast<std::uintptr_t>(from.raw()) | reinterpret_cast<std::uintptr_t>(to.raw()) |
      static_cast<std::uintptr_t>(source.first | source.stride | destination.first |
                                  destination.stride | width);
  if (addresses % sizeof(uint4) == 0) {
    copy_in_units<uint4>(source, destination, to.size(0), width, stream);
  } else if (addresses % sizeof(unsigned) == 0) {
    copy_in_units<unsigned>(source, destination, to.size(0), width, stream);
  } else {
    copy_in_units<std::uint16_t>(source, destination, to.size(0), width, stream);
  }
}

const KernelRegistration register_add(add_slot, DeviceType::kCuda, add_cuda);
const KernelRegistration register_add_in_place(add_in_place_slot, DeviceType::kCuda,
                                               add_in_place_cuda);
const KernelRegistration register_scale(scale_slot, DeviceType::kCuda, scale_cuda);
const KernelRegistration register_fill(fill_slot, DeviceType::kCuda, fill_cuda);
const KernelRegistration register_copy(copy_slot, DeviceType::kCuda, copy_cuda);
const KernelRegistration register_convert(convert_slot, DeviceType::kCuda, convert_cuda);
const KernelRegistration register_copy_columns(copy_columns_slot, DeviceType::kCuda,
                                               copy_columns_cuda);

}  // namespace
}  // namespace fathom::kernels
