#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <initializer_list>

#include "core/error.h"
#include "core/tensor.h"

namespace fathom::kernels::cuda {

// Activations are T = float or __nv_bfloat16; arithmetic is float.
__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);  // to nearest, ties to even
}

// N neighbours that are loaded and stored at once: their address must be a multiple of their size.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
};

// How many elements of T a 16-byte access takes.
template <class T>
inline constexpr int kPackSize = 16 / sizeof(T);

// N neighbours by accesses of kPiece elements.
template <int kPiece, int N, class T>
__device__ __forceinline__ void load_pieces(const T* from, float (&to)[N]) {
  static_assert(N % kPiece == 0);
#pragma unroll
  for (int piece = 0; piece < N; piece += kPiece) {
    const auto pack = *reinterpret_cast<const Pack<T, kPiece>*>(from + piece);
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      to[piece + i] = to_float(pack.values[i]);
    }
  }
}
template <int kPiece, int N, class T>
__device__ __forceinline__ void store_pieces(const float (&from)[N], T* to) {
  static_assert(N % kPiece == 0);
#pragma unroll
  for (int piece = 0; piece < N; piece += kPiece) {
    Pack<T, kPiece> pack;
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      pack.values[i] = from_float<T>(from[piece + i]);
    }
    *reinterpret_cast<Pack<T, kPiece>*>(to + piece) = pack;
  }
}

// N neighbours at once, or by 16-byte accesses where that is too much for one.
template <int N, class T>
__device__ __forceinline__ void load_floats(const T* from, float (&to)[N]) {
  load_pieces<(N < kPackSize<T> ? N : kPackSize<T>)>(from, to);
}
template <int N, class T>
__device__ __forceinline__ void store_floats(const float (&from)[N], T* to) {
  store_pieces<(N < kPackSize<T> ? N : kPackSize<T>)>(from, to);
}

// A tensor's first element, in device memory. T has the size of the tensor's elements.
template <class T>
const T* device_data(const Tensor& tensor) {
  FATHOM_CHECK(sizeof(T) == static_cast<std::size_t>(size_of(tensor.dtype())), tensor.dtype(),
               " read as elements of ", sizeof(T), " bytes");
  return reinterpret_cast<const T*>(tensor.raw());
}
template <class T>
T* device_data(Tensor& tensor) {
  return const_cast<T*>(device_data<T>(static_cast<const Tensor&>(tensor)));
}

template <class T>
struct TypeTag {
  using type = T;
};
// Calls body(TypeTag<T>()) with the T of an activation's dtype.
template <class Body>
void with_activation_type(DType dtype, const Body& body) {
  if (dtype == DType::kBFloat16) {
    body(TypeTag<__nv_bfloat16>());
  } else {
    FATHOM_CHECK(dtype == DType::kFloat32, "an activation of ", dtype);
    body(TypeTag<float>());
  }
}

// Whether rows of `count` elements that start at these pointers can be taken by 16-byte accesses.
template <class T>
bool fits_packs(std::int64_t count, std::initializer_list<const void*> pointers) {
  constexpr std::uintptr_t kBytes = sizeof(T) * kPackSize<T>;
  bool fits = count % kPackSize<T> == 0;
  for (const void* pointer : pointers) {
    fits = fits && reinterpret_cast<std::uintptr_t>(pointer) % kBytes == 0;
  }
  return fits;
}

}  // namespace fathom::kernels::cuda
