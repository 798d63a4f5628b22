#include <algorithm>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/rms_norm.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

// The leading columns of a matrix.
template <class T>
struct Rows {
  T* data;
  std::int64_t stride;

  __device__ __forceinline__ T* row(std::int64_t token) const { return data + token * stride; }
};
template <class T>
Rows<const T> rows_of(const Tensor& tensor) {
  return {device_data<T>(tensor), tensor.size(1)};
}
template <class T>
Rows<T> rows_of(Tensor& tensor) {
  return {device_data<T>(tensor), tensor.size(1)};
}

// A row is worked on by kRowThreads threads, a warp or a block, each of which takes packs of N
// elements, kPacks of them at most, and keeps them in registers; with kPacks of 0 it takes any
// number and reads them twice. An access takes kPiece elements, which does not show in the sums.
template <class Element, int kN, int kPacksOfThread, int kRowThreads, int kElementsOfAccess>
struct Layout {
  using T = Element;
  static constexpr int N = kN;
  static constexpr int kPiece = kElementsOfAccess;
  static constexpr int kPacks = kPacksOfThread;
  static constexpr int kThreads = kRowThreads == kWarpSize ? 4 * kWarpSize : kRowThreads;
  static constexpr int kRowsOfBlock = kThreads / kRowThreads;

  __device__ __forceinline__ static std::int64_t token() {
    return std::int64_t{blockIdx.x} * kRowsOfBlock + threadIdx.x / kRowThreads;
  }
  // Calls body(pack of the thread, first column) for every pack of the thread.
  template <class Body>
  __device__ __forceinline__ static void for_each_pack(int hidden, const Body& body) {
    const int first = static_cast<int>(threadIdx.x) % kRowThreads * N;
    if constexpr (kPacks == 0) {
      for (int column = first; column < hidden; column += kRowThreads * N) {
        body(0, column);
      }
    } else {
#pragma unroll
      for (int pack = 0; pack < kPacks; ++pack) {
        const int column = first + pack * kRowThreads * N;
        if (column < hidden) {
          body(pack, column);
        }
      }
    }
  }
  __device__ __forceinline__ static float sum_of_row(float value) {
    if constexpr (kRowThreads == kWarpSize) {
      return reduce_warp<Sum>(value);
    } else {
      return reduce_block<Sum, kThreads>(value, 0.0F);
    }
  }
};

// A thread's part of a row.
template <class L>
class Part {
  using T = typename L::T;
  using Packed = Pack<T, L::N>;

 public:
  __device__ __forceinline__ explicit Part(const T* row) : row_(row) {}

  // Reads the pack and keeps it.
  __device__ __forceinline__ void read(int pack, int column) { kept_[pack] = load(row_ + column); }
  __device__ __forceinline__ void read(int pack, int column, float (&x)[L::N]) {
    read(pack, column);
    convert(kept_[pack], x);
  }
  // Keeps x, rounded to T, in place of what was read; x becomes that.
  __device__ __forceinline__ void replace(int pack, float (&x)[L::N]) {
#pragma unroll
    for (int i = 0; i < L::N; ++i) {
      kept_[pack].values[i] = from_float<T>(x[i]);
    }
    convert(kept_[pack], x);
  }
  // The pack that was read before.
  __device__ __forceinline__ void again(int pack, int column, float (&x)[L::N]) const {
    convert(L::kPacks == 0 ? load(row_ + column) : kept_[pack], x);
  }

 private:
  __device__ __forceinline__ static Packed load(const T* from) {
    Packed packed;
#pragma unroll
    for (int first = 0; first < L::N; first += L::kPiece) {
      const auto piece = *reinterpret_cast<const Pack<T, L::kPiece>*>(from + first);
#pragma unroll
      for (int i = 0; i < L::kPiece; ++i) {
        packed.values[first + i] = piece.values[i];
      }
    }
    return packed;
  }
  __device__ __forceinline__ static void convert(const Packed& pack, float (&x)[L::N]) {
#pragma unroll
    for (int i = 0; i < L::N; ++i) {
      x[i] = to_float(pack.values[i]);
    }
  }

  const T* row_;
  Packed kept_[L::kPacks == 0 ? 1 : L::kPacks]{};
};

template <class T>
struct ForwardArguments {
  Rows<const T> x;
  Rows<T> h;  // with kAdds
  const T* gain;
  Rows<T> y;
  float* inv_rms;
  std::int64_t num_tokens;
  int hidden;
  float eps;
};

// The norm of x or, with kAdds, of h += x.
template <class L, bool kAdds>
__global__ void __launch_bounds__(L::kThreads) forward(ForwardArguments<typename L::T> given) {
  const std::int64_t token = L::token();
  if (token >= given.num_tokens) {
    return;  // a whole warp, or with one row a block never
  }
  Part<L> row(kAdds ? given.h.row(token) : given.x.row(token));
  [[maybe_unused]] Part<L> added(given.x.row(token));
  // All reads before the first write: the compiler, for which x and h might overlap, would leave
  // them behind it.
  L::for_each_pack(given.hidden, [&](int pack, int column) {
    row.read(pack, column);
    if constexpr (kAdds) {
      added.read(pack, column);
    }
  });
  float squares = 0.0F;
  L::for_each_pack(given.hidden, [&](int pack, int column) {
    float values[L::N];
    row.again(pack, column, values);
    if constexpr (kAdds) {
      float x[L::N];
      added.again(pack, column, x);
#pragma unroll
      for (int i = 0; i < L::N; ++i) {
        values[i] += x[i];
      }
      row.replace(pack, values);
      store_pieces<L::kPiece>(values, given.h.row(token) + column);
    }
#pragma unroll
    for (int i = 0; i < L::N; ++i) {
      squares = fmaf(values[i], values[i], squares);
    }
  });
  const float mean = L::sum_of_row(squares) / static_cast<float>(given.hidden);
  const float inverse = 1.0F / sqrtf(mean + given.eps);
  auto* const y = given.y.row(token);
  L::for_each_pack(given.hidden, [&](int pack, int column) {
    float values[L::N];
    float gain[L::N];
    row.again(pack, column, values);
    load_pieces<L::kPiece>(given.gain + column, gain);
#pragma unroll
    for (int i = 0; i < L::N; ++i) {
      values[i] = values[i] * inverse * gain[i];
    }
    store_pieces<L::kPiece>(values, y + column);
  });
  if (threadIdx.x % (L::kThreads / L::kRowsOfBlock) == 0) {
    given.inv_rms[token] = inverse;
  }
}

template <class T>
struct BackwardArguments {
  Rows<const T> dy;
  Rows<const T> x;
  const T* gain;
  const float* inv_rms;
  Rows<const T> dh;  // with kAdds
  Rows<T> dx;
  std::int64_t num_tokens;
  int hidden;
};

// The gradient through the norm or, with kAdds, that and dh.
template <class L, bool kAdds>
__global__ void __launch_bounds__(L::kThreads)
    backward_input(BackwardArguments<typename L::T> given) {
  const std::int64_t token = L::token();
  if (token >= given.num_tokens) {
    return;
  }
  Part<L> dy(given.dy.row(token));
  Part<L> x(given.x.row(token));
  [[maybe_unused]] Part<L> dh(given.dh.row(token));
  const float inverse = given.inv_rms[token];
  float projection = 0.0F;  // of dy * gain on x
  L::for_each_pack(given.hidden, [&](int pack, int column) {
    float gradient[L::N];
    float values[L::N];
    float gain[L::N];
    dy.read(pack, column, gradient);
    x.read(pack, column, values);
    if constexpr (kAdds) {
      dh.read(pack, column);
    }
    load_pieces<L::kPiece>(given.gain + column, gain);
#pragma unroll
    for (int i = 0; i < L::N; ++i) {
      projection = fmaf(gradient[i] * gain[i], values[i] * inverse, projection);
    }
  });
  const float mean = L::sum_of_row(projection) / static_cast<float>(given.hidden);
  auto* const dx = given.dx.row(token);
  L::for_each_pack(given.hidden, [&](int pack, int column) {
    float gradient[L::N];
    float values[L::N];
    float gain[L::N];
    dy.again(pack, column, gradient);
    x.again(pack, column, values);
    load_pieces<L::kPiece>(given.gain + column, gain);
#pragma unroll
    for (int i = 0; i < L::N; ++i) {
      values[i] = fmaf(values[i] * -inverse, mean, gradient[i] * gain[i]);
    }
    float more[L::N] = {};
    if constexpr (kAdds) {
      dh.again(pack, column, more);
    }
#pragma unroll
    for (int i = 0; i < L::N; ++i) {  // fused or not in every layout alike
      values[i] = kAdds ? fmaf(inverse, values[i], more[i]) : inverse * values[i];
    }
    store_pieces<L::kPiece>(values, dx + column);
  });
}

template <class L>
struct LayoutTag {
  using type = L;
};

// Calls body(LayoutTag<L>()) with a layout of N elements a pack and kRowThreads, which settle the
// order of a row's sum.
template <class T, int N, int kPacks, int kRowThreads, class Body>
void with_accesses(bool is_packed, const Body& body) {
  if (is_packed) {
    body(LayoutTag<Layout<T, N, kPacks, kRowThreads, N>>());
  } else {
    body(LayoutTag<Layout<T, N, 0, kRowThreads, 1>>());
  }
}

// Calls body(LayoutTag<L>()) with the layout for rows of `hidden` elements: 16 elements a
// thread where that goes, so that a multiprocessor waits for many bytes at a time.
// `is_packed`: rows can be taken by 16-byte accesses.
template <class T, class Body>
void with_layout(int hidden, bool is_packed, const Body& body) {
  constexpr int N = kPackSize<T>;
  constexpr int kPacks = 16 / N;  // 16 elements a thread
  if (hidden % N != 0 || hidden > 32 * 256) {
    body(LayoutTag<Layout<T, 1, 0, 256, 1>>());
  } else if (hidden <= 16 * kWarpSize) {
    with_accesses<T, N, kPacks, kWarpSize>(is_packed, body);
  } else if (hidden <= 16 * 128) {
    with_accesses<T, N, kPacks, 128>(is_packed, body);
  } else if (hidden <= 16 * 256) {
    with_accesses<T, N, kPacks, 256>(is_packed, body);
  } else {
    with_accesses<T, N, 2 * kPacks, 256>(is_packed, body);
  }
}

// `h` is null, or what x is added to and the norm taken of.
void forward_cuda(const Tensor& x, Tensor* h, const Tensor& gain, float eps, Tensor& y,
                  Tensor& inv_rms, Stream& stream) {
  const auto hidden = static_cast<int>(gain.size(0));
  with_activation_type(y.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Rows<T> sums = h != nullptr ? rows_of<T>(*h) : Rows<T>{nullptr, 0};
    const bool is_packed = fits_packs<T>(hidden | x.size(1) | y.size(1) | sums.stride,
                                         {x.raw(), y.raw(), gain.raw(), sums.data});
    const ForwardArguments<T> given{rows_of<T>(x),
                                    sums,
                                    device_data<T>(gain),
                                    rows_of<T>(y),
                                    device_data<float>(inv_rms),
                                    x.size(0),
                                    hidden,
                                    eps};
    with_layout<T>(hidden, is_packed, [&](auto layout) {
      using L = typename decltype(layout)::type;
      launch(h != nullptr ? forward<L, true> : forward<L, false>,
             {blocks_for(given.num_tokens, L::kRowsOfBlock), L::kThreads}, stream, given);
    });
  });
}

// `dh` is null, or what is added to the gradient through the norm.
void backward_cuda(const Tensor& dy, const Tensor& x, const Tensor& gain, const Tensor& inv_rms,
                   const Tensor* dh, Tensor& dx, Stream& stream) {
  const auto hidden = static_cast<int>(gain.size(0));
  with_activation_type(dx.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Rows<const T> added = dh != nullptr ? rows_of<T>(*dh) : Rows<const T>{nullptr, 0};
    const bool is_packed =
        fits_packs<T>(hidden | dy.size(1) | x.size(1) | dx.size(1) | added.stride,
                      {dy.raw(), x.raw(), dx.raw(), gain.raw(), added.data});
    const BackwardArguments<T> given{rows_of<T>(dy),
                                     rows_of<T>(x),
                                     device_data<T>(gain),
                                     device_data<float>(inv_rms),
                                     added,
                                     rows_of<T>(dx),
                                     x.size(0),
                                     hidden};
    with_layout<T>(hidden, is_packed, [&](auto layout) {
      using L = typename decltype(layout)::type;
      launch(dh != nullptr ? backward_input<L, true> : backward_input<L, false>,
             {blocks_for(given.num_tokens, L::kRowsOfBlock), L::kThreads}, stream, given);
    });
  });
}

void rms_norm_forward_cuda(const Tensor& x, const Tensor& gain, float eps, Tensor& y,
                           Tensor& inv_rms, Stream& stream) {
  forward_cuda(x, nullptr, gain, eps, y, inv_rms, stream);
}

void rms_norm_backward_input_cuda(const Tensor& dy, const Tensor& x, const Tensor& gain,
                                  const Tensor& inv_rms, Tensor& dx, Stream& stream) {
  backward_cuda(dy, x, gain, inv_rms, nullptr, dx, stream);
}

void add_rms_norm_forward_cuda(const Tensor& x, Tensor& h, const Tensor& gain, float eps, Tensor& y,
                               Tensor& inv_rms, Stream& stream) {
  forward_cuda(x, &h, gain, eps, y, inv_rms, stream);
}

void add_rms_norm_backward_input_cuda(const Tensor& dy, const Tensor& h, const Tensor& gain,
                                      const Tensor& inv_rms, const Tensor& dh, Tensor& dx,
                                      Stream& stream) {
  backward_cuda(dy, h, gain, inv_rms, &dh, dx, stream);
}

const KernelRegistration register_forward(rms_norm_forward_slot, DeviceType::kCuda,
                                          rms_norm_forward_cuda);
const KernelRegistration register_backward_input(rms_norm_backward_input_slot, DeviceType::kCuda,
                                                 rms_norm_backward_input_cuda);
const KernelRegistration register_add_forward(add_rms_norm_forward_slot, DeviceType::kCuda,
                                              add_rms_norm_forward_cuda);
const KernelRegistration register_add_backward_input(add_rms_norm_backward_input_slot,
                                                     DeviceType::kCuda,
                                                     add_rms_norm_backward_input_cuda);

}  // namespace
}  // namespace fathom::kernels
