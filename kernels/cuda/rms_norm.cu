#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/rms_norm_rows.cuh"
#include "kernels/rms_norm.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

template <class T>
struct ForwardArguments {
  MatrixRows<const T> x;
  MatrixRows<T> h;  // with kAdds
  const T* gain;
  MatrixRows<T> y;
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
  RowPart<L> row(kAdds ? given.h.row(token) : given.x.row(token));
  [[maybe_unused]] RowPart<L> added(given.x.row(token));
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
  if (threadIdx.x % L::kThreadsOfRow == 0) {
    given.inv_rms[token] = inverse;
  }
}

// `h` is null, or what x is added to and the norm taken of.
void forward_cuda(const Tensor& x, Tensor* h, const Tensor& gain, float eps, Tensor& y,
                  Tensor& inv_rms, Stream& stream) {
  const auto hidden = static_cast<int>(gain.size(0));
  with_activation_type(y.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const MatrixRows<T> sums = h != nullptr ? rows_of<T>(*h) : MatrixRows<T>{nullptr, 0};
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

void rms_norm_forward_cuda(const Tensor& x, const Tensor& gain, float eps, Tensor& y,
                           Tensor& inv_rms, Stream& stream) {
  forward_cuda(x, nullptr, gain, eps, y, inv_rms, stream);
}

void add_rms_norm_forward_cuda(const Tensor& x, Tensor& h, const Tensor& gain, float eps, Tensor& y,
                               Tensor& inv_rms, Stream& stream) {
  forward_cuda(x, &h, gain, eps, y, inv_rms, stream);
}

const KernelRegistration register_forward(rms_norm_forward_slot, DeviceType::kCuda,
                                          rms_norm_forward_cuda);
const KernelRegistration register_add_forward(add_rms_norm_forward_slot, DeviceType::kCuda,
                                              add_rms_norm_forward_cuda);

}  // namespace
}  // namespace fathom::kernels
